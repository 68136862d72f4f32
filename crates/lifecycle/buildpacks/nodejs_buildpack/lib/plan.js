// Reads an app's package.json once and prints what the scripts need to know, as shell assignments.
// usage: plan.js BUILD_DIR [SEMVER_MODULE]
'use strict';
const fs = require('fs');
const path = require('path');

const [app, semverPath] = process.argv.slice(2);
const quote = (text) => `'${String(text).replace(/'/g, `'\\''`)}'`;
const say = (name, value) => console.log(`${name}=${quote(value)}`);
const exists = (name) => fs.existsSync(path.join(app, name));
const read = (name) => fs.readFileSync(path.join(app, name), 'utf8');

let manifest = {};
if (exists('package.json')) {
  try {
    manifest = JSON.parse(read('package.json'));
  } catch (error) {
    say('problem', `package.json: ${error.message}`);
    process.exit(0);
  }
}
const scripts = manifest.scripts || {};
const engines = manifest.engines || {};
const count = (name) => Object.keys(manifest[name] || {}).length;

// The version of Node.js that is asked for, and whether this one will do.
const lts = { argon: 4, boron: 6, carbon: 8, dubnium: 10, erbium: 12, fermium: 14, gallium: 16, hydrogen: 18, iron: 20, jod: 22, krypton: 24 };
let wanted = engines.node || '';
let source = 'package.json';
if (!wanted && exists('.nvmrc')) {
  source = '.nvmrc';
  wanted = read('.nvmrc').trim();
  const name = (wanted.match(/^lts\/(.*)$/) || [])[1];
  if (name) wanted = lts[name] ? `${lts[name]}.x` : '*';
  if (wanted === 'node' || wanted === 'stable') wanted = '*';
}
let satisfied = 'unknown';
try {
  const semver = require(semverPath);
  satisfied = !wanted || semver.satisfies(process.version, wanted.replace(/^v(?=\d)/, '')) ? 'yes' : 'no';
} catch {
  // Without npm's own semver nobody can say.
}
say('node_version', process.versions.node);
say('wanted', wanted);
say('wanted_source', source);
say('satisfied', satisfied);

const development = count('devDependencies');
say('dependencies', count('dependencies') + count('optionalDependencies') + (manifest.workspaces ? 1 : 0));
say('dev_dependencies', development);
say('prebuild', scripts['heroku-prebuild'] ? 'yes' : '');
say('postbuild', scripts['heroku-postbuild'] ? 'yes' : '');
say('own_install', ['preinstall', 'install', 'postinstall', 'prepare'].some((name) => scripts[name]) || exists('binding.gyp') ? 'yes' : '');
// Dependencies that are other folders make the lock file no full description.
const local = JSON.stringify([manifest.dependencies, manifest.workspaces, manifest.devDependencies] || []);
say('leads_elsewhere', manifest.workspaces || /"(file|link|git|github|https?)[:+]/.test(local) ? 'yes' : '');

// npm in front of the app costs memory and time for nothing when all it does is start node.
const start = (scripts.start || '').trim();
const simple = /^(node|NODE_ENV=\w+ node) [^|&;<>()$`\\"'*?\n]+$/.test(start);
if (simple && !scripts.prestart && !scripts.poststart) say('start', start.replace(/^(?=NODE_ENV=)/, 'env '));
else if (!start && exists('server.js') && !scripts.prestart && !scripts.poststart) say('start', 'node server.js');
else if (start || exists('server.js')) say('start', 'npm start');
else say('start', '');
