//! The platform's own buildpacks, staging and running small apps with the host's interpreters.

use std::path::Path;
use std::process::Command;

use crate::workshop::{Workshop, write};

const SERVER_PY: &str = r#"
import http.server, os
import greeting
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = greeting.text().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;

const SERVER_JS: &str = r#"
const text = require('greeting')();
require('http').createServer((_, answer) => answer.end(text)).listen(process.env.PORT);
"#;

fn missing(program: &str) -> bool {
    let path = format!("/usr/bin/{program}");
    let missing = !Path::new(&path).exists();
    if missing {
        eprintln!("SKIPPED: {path} is not installed");
    }
    missing
}

/// The host's own interpreters, as the stack shows them, whatever else is first on the developer's path.
fn on_the_stack(buildpack: &str) -> Workshop {
    let mut workshop = Workshop::new();
    workshop.system_buildpack(buildpack).variable("PATH", "/usr/local/bin:/usr/bin:/bin");
    workshop
}

/// A wheel: a zip of a module and its metadata, with a command `greet`.
fn wheel(folder: &Path) {
    use std::io::Write;
    std::fs::create_dir_all(folder).unwrap();
    let file = std::fs::File::create(folder.join("greeting-1.0-py3-none-any.whl")).unwrap();
    let mut zip = zip::ZipWriter::new(file);
    let files = [
        (
            "greeting.py",
            "def text():\n    return 'hello from a wheel'\ndef main():\n    print(text())\n",
        ),
        (
            "greeting-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n",
        ),
        (
            "greeting-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        ),
        ("greeting-1.0.dist-info/entry_points.txt", "[console_scripts]\ngreet = greeting:main\n"),
        ("greeting-1.0.dist-info/RECORD", ""),
    ];
    for (name, text) in files {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap();
}

#[test]
fn python_with_vendored_wheels_runs_after_it_moved() {
    if missing("python3") {
        return;
    }
    let workshop = on_the_stack("python_buildpack");
    let write_app = || {
        workshop
            .app("requirements.txt", "greeting==1.0\n")
            .app("server.py", SERVER_PY)
            .app("runtime.txt", "python-3.x\n");
        workshop.app("Procfile", "web: python server.py\ntask: greet\n");
        wheel(&workshop.path("tmp/app/vendor"));
    };
    write_app();
    let built = workshop.stage();
    assert!(built.stdout.contains("-----> Running Pip Install (Vendored)"), "{}", built.stdout);
    let metadata = &workshop.result()["lifecycle_metadata"];
    assert_eq!(metadata["buildpacks"][0]["name"], "python");
    assert_eq!(metadata["buildpacks"][0]["version"], lifecycle::buildpacks::VERSION);
    workshop.deploy();
    assert_eq!(workshop.start().get("/").text(), "hello from a wheel");
    let greeted = workshop.launch("greet");
    assert!(
        greeted.stdout.ends_with("hello from a wheel\n"),
        "{}{}",
        greeted.stdout,
        greeted.stderr
    );

    // The second build finds the same requirements.
    write_app();
    let built = workshop.stage();
    assert!(built.stdout.contains("requirements did not change"), "{}", built.stdout);
    workshop.deploy();
    assert_eq!(workshop.start().get("/").text(), "hello from a wheel");
}

#[test]
fn python_names_what_it_cannot_do() {
    if missing("python3") {
        return;
    }
    let workshop = on_the_stack("python_buildpack");
    workshop.app("requirements.txt", "").app("runtime.txt", "python-3.2.1\n");
    let built = workshop.build(&["-skipDetect"]);
    assert_eq!(built.code, 223);
    assert!(
        built.stderr.contains("no match found for 3.2.1 in this stack's versions: 3."),
        "{}",
        built.stderr
    );
    workshop.app("requirements.txt", "not-there-at-all==9\n").app("runtime.txt", "");
    wheel(&workshop.path("tmp/app/vendor"));
    let built = workshop.build(&["-skipDetect"]);
    assert_eq!(built.code, 223);
    assert!(
        built.stderr.contains("include all dependencies in the vendor directory"),
        "{}",
        built.stderr
    );
}

#[test]
fn python_with_the_registry() {
    if missing("python3") || missing("pip") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut pip = Command::new("/usr/bin/python3");
    pip.args(["-m", "pip", "download", "--no-deps", "-q", "itsdangerous==2.2.0", "-d"])
        .arg(folder.path());
    if !pip.output().unwrap().status.success() {
        eprintln!("SKIPPED: the package registry cannot be reached");
        return;
    }
    let workshop = on_the_stack("python_buildpack");
    let lock = r#"{"_meta": {"requires": {"python_version": "3"}}, "default": {"itsdangerous": {"version": "==2.2.0"}}}"#;
    workshop
        .app("Pipfile", "")
        .app("Pipfile.lock", lock)
        .app("Procfile", "web: python -c 'import itsdangerous; print(itsdangerous.__name__)'");
    workshop.stage();
    workshop.deploy();
    let launched = workshop.launch("");
    assert!(launched.stdout.ends_with("itsdangerous\n"), "{}{}", launched.stdout, launched.stderr);
}

#[test]
fn python_without_requirements_starts_at_once() {
    if missing("python3") {
        return;
    }
    let workshop = on_the_stack("python_buildpack");
    workshop.app("server.py", "print('plain')").app("requirements.txt", "# nothing\n");
    let built = workshop.stage();
    assert!(built.stderr.contains("No start command specified"), "{}", built.stderr);
    workshop.deploy();
    let launched = workshop.launch("python server.py && pip --version");
    assert!(launched.stdout.contains("plain\npip "), "{}{}", launched.stdout, launched.stderr);
}

#[test]
fn node_with_vendored_modules() {
    if missing("node") {
        return;
    }
    let workshop = on_the_stack("nodejs_buildpack");
    let manifest = r#"{"name": "app", "version": "1.0.0", "engines": {"node": ">=12"}, "scripts": {"start": "node server.js"}, "dependencies": {"greeting": "1.0.0"}}"#;
    workshop.app("package.json", manifest).app("server.js", SERVER_JS);
    workshop
        .app("node_modules/greeting/package.json", r#"{"name": "greeting", "version": "1.0.0"}"#);
    workshop.app("node_modules/greeting/index.js", "module.exports = () => 'hello from a module';");
    let built = workshop.stage();
    assert!(built.stdout.contains("Prebuild detected"), "{}", built.stdout);
    assert_eq!(workshop.result()["process_types"]["web"], "node server.js");
    assert_eq!(workshop.result()["lifecycle_metadata"]["detected_buildpack"], "nodejs");
    workshop.deploy();
    assert_eq!(workshop.start().get("/").text(), "hello from a module");
}

#[test]
fn node_installs_and_remembers() {
    if missing("node") || missing("npm") {
        return;
    }
    let workshop = on_the_stack("nodejs_buildpack");
    let folder = tempfile::tempdir().unwrap();
    let manifest = r#"{"name": "app", "version": "1.0.0", "dependencies": {"ms": "2.1.3"}}"#;
    write(&folder.path().join("package.json"), manifest, 0o644);
    let mut npm = Command::new("npm");
    npm.args(["install", "--package-lock-only", "--no-audit", "--no-fund"])
        .current_dir(folder.path());
    if !npm.output().unwrap().status.success() {
        eprintln!("SKIPPED: the package registry cannot be reached");
        return;
    }
    let lock = std::fs::read_to_string(folder.path().join("package-lock.json")).unwrap();
    let server = "require('http').createServer((_, answer) => answer.end(`${require('ms')('2 days')} ${process.env.NODE_ENV}`)).listen(process.env.PORT);";
    for remembered in [false, true] {
        workshop
            .app("package.json", manifest)
            .app("package-lock.json", &lock)
            .app("server.js", server);
        let built = workshop.stage();
        let said = built.stdout.contains("package.json and lock file did not change");
        assert_eq!(said, remembered, "{}", built.stdout);
        workshop.deploy();
        assert_eq!(workshop.start().get("/").text(), "172800000 production");
    }
}

#[test]
fn node_names_what_it_cannot_do() {
    if missing("node") || missing("npm") {
        return;
    }
    let workshop = on_the_stack("nodejs_buildpack");
    workshop.app("package.json", r#"{"engines": {"node": "4.x"}}"#);
    let built = workshop.build(&["-skipDetect"]);
    assert_eq!(built.code, 223);
    assert!(
        built.stderr.contains("no match found for 4.x in this stack's versions: "),
        "{}",
        built.stderr
    );
    workshop.app("package.json", "{");
    let built = workshop.build(&["-skipDetect"]);
    assert!(built.stderr.contains("Failed parsing package.json"), "{}", built.stderr);
}

#[test]
fn node_starts_through_npm_only_where_npm_does_something() {
    if missing("node") {
        return;
    }
    let cases = [
        (r#"{"scripts": {"start": "node a.js --port 1"}}"#, Some("node a.js --port 1")),
        (r#"{"scripts": {"start": "NODE_ENV=x node a.js"}}"#, Some("env NODE_ENV=x node a.js")),
        (r#"{"scripts": {"start": "node a.js", "prestart": "make"}}"#, Some("npm start")),
        (r#"{"scripts": {"start": "node a.js && echo"}}"#, Some("npm start")),
        (r#"{"scripts": {"start": "next start"}}"#, Some("npm start")),
        ("{}", Some("node server.js")),
    ];
    for (manifest, want) in cases {
        let workshop = on_the_stack("nodejs_buildpack");
        workshop.app("package.json", manifest).app("server.js", "");
        workshop.stage();
        assert_eq!(workshop.result()["process_types"]["web"].as_str(), want, "{manifest}");
    }
}

#[test]
fn a_supplied_tool_is_on_the_path_of_the_app() {
    if missing("node") {
        return;
    }
    let mut workshop = Workshop::new();
    let supply = "mkdir -p $3/$4/bin; printf '#!/bin/sh\\necho supplied\\n' > $3/$4/bin/tool; chmod 755 $3/$4/bin/tool";
    workshop.buildpack("tools", &[("supply", supply)]).system_buildpack("binary_buildpack");
    workshop.app("run.sh", "#!/bin/sh\nexec tool\n");
    workshop.stage();
    workshop.deploy();
    let launched = workshop.launch("sh run.sh");
    assert!(launched.stdout.ends_with("\nsupplied\n"), "{}{}", launched.stdout, launched.stderr);
}

#[test]
fn each_buildpack_knows_its_apps() {
    let cases = [
        ("Gemfile", "ruby_buildpack"),
        ("package.json", "nodejs_buildpack"),
        ("go.mod", "go_buildpack"),
        ("requirements.txt", "python_buildpack"),
        ("index.php", "php_buildpack"),
        ("nginx.conf", "nginx_buildpack"),
        ("app.jar", "java_buildpack"),
        ("index.html", "staticfile_buildpack"),
        ("Procfile", "procfile_buildpack"),
        ("anything", "none"),
    ];
    for (file, want) in cases {
        let folder = tempfile::tempdir().unwrap();
        let app = folder.path().join("app");
        write(&app.join(file), "", 0o644);
        let detects = |buildpack: &lifecycle::buildpacks::SystemBuildpack| {
            let place = folder.path().join(buildpack.name);
            zip::ZipArchive::new(std::io::Cursor::new(&buildpack.zip))
                .unwrap()
                .extract(&place)
                .unwrap();
            let output = Command::new(place.join("bin/detect")).arg(&app).output().unwrap();
            output.status.success()
        };
        let all = lifecycle::buildpacks::system_buildpacks();
        let found = all
            .iter()
            .find(|buildpack| detects(buildpack))
            .map_or("none", |buildpack| buildpack.name);
        assert_eq!(found, want, "{file}");
    }
}
