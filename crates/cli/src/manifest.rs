//! App manifests: read, filled in with variables, overridden by flags, written for the server. Unknown keys stay.

mod diff;
mod overrides;
mod place;
mod vars;

use std::path::{Path, PathBuf};

use serde_norway::{Mapping, Value};

pub use diff::{Diff, Mark};
pub use overrides::{Command, Overrides};
pub use vars::{Vars, read_var, read_vars_file};

use crate::error::{Error, Result, failed, unopened};

/// A manifest; at least one application is in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    root: Mapping,
    /// The file it came from; without one it was made of flags alone.
    pub path: Option<PathBuf>,
    /// What the file says, for whoever looks for a line.
    text: String,
}

/// What to upload for an app, and how to run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppSource {
    pub name: String,
    pub path: Option<PathBuf>,
    pub docker: Option<Docker>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Docker {
    pub image: String,
    pub username: Option<String>,
}

impl Manifest {
    /// For an app that has no manifest.
    pub fn bare(name: &str) -> Manifest {
        let app = Mapping::from_iter([("name".into(), name.into())]);
        let root = Mapping::from_iter([(
            "applications".into(),
            Value::Sequence(vec![Value::Mapping(app)]),
        )]);
        Manifest { root, path: None, text: String::new() }
    }

    /// The manifest at a path, or in a directory.
    pub fn locate(path: &Path) -> Option<PathBuf> {
        let found = if path.is_dir() {
            ["manifest.yml", "manifest.yaml"]
                .iter()
                .map(|name| path.join(name))
                .find(|file| file.is_file())?
        } else {
            path.is_file().then(|| path.to_owned())?
        };
        found.canonicalize().ok()
    }

    pub fn load(path: &Path, vars: &Vars) -> Result<Manifest> {
        let text =
            std::fs::read_to_string(path).map_err(|error| Error::Failed(unopened(path, &error)))?;
        let root = parse(&text, vars, path)?;
        Ok(Manifest { root, path: Some(path.to_owned()), text })
    }

    /// Keys that have no effect, one sentence each.
    pub fn unread(&self) -> Vec<String> {
        place::unread(&self.root, &self.text)
    }

    /// Pure: what the server refused, and under it where that stands in the file.
    pub fn pointed(&self, refusal: String) -> String {
        let Some(path) = &self.path else { return refusal };
        let mut spots: Vec<String> = Vec::new();
        for line in refusal.lines() {
            let sentence = line.trim_start_matches("- ");
            if let Some(spot) = place::of_refusal(&self.text, sentence) {
                let spot = format!("{} line {}, key '{}'", path.display(), spot.line, spot.key);
                if !spots.contains(&spot) {
                    spots.push(spot);
                }
            }
        }
        if spots.is_empty() { refusal } else { format!("{refusal}\n{}", spots.join("\n")) }
    }

    pub fn to_yaml(&self) -> String {
        serde_norway::to_string(&self.root).expect("what was read as YAML can be written as YAML")
    }

    pub fn root(&self) -> &Mapping {
        &self.root
    }

    pub fn names(&self) -> Vec<String> {
        self.apps().map(|app| text(app, "name").unwrap_or_default()).collect()
    }

    /// Where each app's bits come from. A relative path is relative to the manifest.
    pub fn sources(&self) -> Vec<AppSource> {
        self.apps()
            .map(|app| {
                let docker = app.get("docker").and_then(Value::as_mapping);
                AppSource {
                    name: text(app, "name").unwrap_or_default(),
                    path: text(app, "path").map(PathBuf::from),
                    docker: docker.and_then(|docker| {
                        Some(Docker {
                            image: text(docker, "image")?,
                            username: text(docker, "username"),
                        })
                    }),
                }
            })
            .collect()
    }

    /// Keeps only the app of that name.
    pub fn keep(&mut self, name: &str) {
        self.apps_mut().retain(|app| app.get("name").and_then(Value::as_str) == Some(name));
    }

    fn apps(&self) -> impl Iterator<Item = &Mapping> {
        self.root
            .get("applications")
            .and_then(Value::as_sequence)
            .into_iter()
            .flatten()
            .filter_map(Value::as_mapping)
    }

    fn apps_mut(&mut self) -> &mut Vec<Value> {
        let apps = self.root.get_mut("applications").and_then(Value::as_sequence_mut);
        apps.expect("a manifest always has a list of applications")
    }
}

fn text(map: &Mapping, key: &str) -> Option<String> {
    match map.get(key)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Pure: the text with its variables filled in, checked as far as the command line must understand it.
fn parse(text: &str, vars: &Vars, path: &Path) -> Result<Mapping> {
    let mut value: Value =
        serde_norway::from_str(text).map_err(|error| invalid(path, &error.to_string()))?;
    value.apply_merge().map_err(|error| invalid(path, &error.to_string()))?;
    vars::fill_in(&mut value, vars).map_err(|missing| vars::complain(&missing, text, path))?;
    let Value::Mapping(root) = value else {
        return Err(invalid(path, "the top is not a map with the key 'applications'"));
    };
    let Some(apps) =
        root.get("applications").and_then(Value::as_sequence).filter(|apps| !apps.is_empty())
    else {
        return failed("Manifest must have at least one application.");
    };
    for (index, app) in apps.iter().enumerate() {
        let at = |what: &str| invalid(path, &format!("{}: {what}", place::item(text, index)));
        let Some(app) = app.as_mapping() else {
            return Err(at("an application must be a map of keys"));
        };
        if app.get("name").is_some_and(|name| name.is_mapping() || name.is_sequence()) {
            return Err(at("key 'name' must be a text"));
        }
        if app
            .get("processes")
            .is_some_and(|processes| !processes.is_sequence() && !processes.is_null())
        {
            return Err(at("key 'processes' must be a list"));
        }
        if app.contains_key("disk_quota") && app.contains_key("disk-quota") {
            return Err(at("cannot define both `disk_quota` and `disk-quota`"));
        }
    }
    Ok(root)
}

fn invalid(path: &Path, why: &str) -> Error {
    Error::Failed(format!(
        "Unable to push app because manifest {} is not valid yaml.\n{why}",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[track_caller]
    fn check(text: &str, want: Expect) {
        let done = parse(text, &Vars::new(), Path::new("manifest.yml"));
        want.assert_eq(&done.map_or_else(
            |error| error.to_string(),
            |root| serde_norway::to_string(&root).unwrap(),
        ));
    }

    #[test]
    fn unknown_keys_and_order_stay() {
        check(
            "version: 1\napplications:\n- name: a\n  zebra: {stripes: 3}\n  memory: 64M\n",
            expect![[r#"
            version: 1
            applications:
            - name: a
              zebra:
                stripes: 3
              memory: 64M
        "#]],
        );
    }

    #[test]
    fn anchors_are_followed() {
        check(
            "defaults: &d\n  memory: 64M\napplications:\n- <<: *d\n  name: a\n",
            expect![[r#"
                defaults:
                  memory: 64M
                applications:
                - name: a
                  memory: 64M
            "#]],
        );
    }

    #[test]
    fn errors_name_the_place() {
        check(
            "applications:\n- name: a\n\t memory: x\n",
            expect![[r#"
            Unable to push app because manifest manifest.yml is not valid yaml.
            found a tab character that violates indentation at line 3 column 1, while scanning a plain scalar at line 2 column 9"#]],
        );
        check(
            "applications:\n- name: a\n- b\n",
            expect![[r#"
            Unable to push app because manifest manifest.yml is not valid yaml.
            line 3: an application must be a map of keys"#]],
        );
        check(
            "applications:\n  - name: a\n    processes: 3\n",
            expect![[r#"
            Unable to push app because manifest manifest.yml is not valid yaml.
            line 2: key 'processes' must be a list"#]],
        );
        check("applications: []\n", expect!["Manifest must have at least one application."]);
    }

    #[test]
    fn a_refusal_names_file_line_and_key() {
        let text = "applications:\n- name: a\n  memory: 64Q\n  instances: -1\n";
        let root = parse(text, &Vars::new(), Path::new("m.yml")).unwrap();
        let path = Some(PathBuf::from("m.yml"));
        let manifest = Manifest { root, path, text: text.to_owned() };
        let refused = "Multiple errors occurred:\n- For application 'a': Process \"web\": Memory must use a unit\n- For application 'a': Process \"web\": Instances must be more";
        expect![[r#"
            Multiple errors occurred:
            - For application 'a': Process "web": Memory must use a unit
            - For application 'a': Process "web": Instances must be more
            m.yml line 3, key 'memory'
            m.yml line 4, key 'instances'"#]]
        .assert_eq(&manifest.pointed(refused.to_owned()));
        assert_eq!(manifest.pointed("no".to_owned()), "no");
    }

    #[test]
    fn sources_tell_what_to_upload() {
        let root = parse("applications:\n- name: a\n  path: sub\n- name: b\n  docker: {image: x/y, username: me}\n", &Vars::new(), Path::new("m")).unwrap();
        let sources = Manifest { root, path: None, text: String::new() }.sources();
        assert_eq!(sources[0].path.as_deref(), Some(Path::new("sub")));
        assert_eq!(
            sources[1].docker,
            Some(Docker { image: "x/y".to_owned(), username: Some("me".to_owned()) })
        );
    }
}
