//! Flags of `cf push` that change what the manifest says.

use std::path::{Path, PathBuf};

use serde_norway::{Mapping, Value};

use super::Manifest;
use crate::error::{Error, Result, failed};

/// What flags say about the apps of a manifest. Nearly all of them are for one app only.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    pub name: Option<String>,
    pub buildpacks: Vec<String>,
    pub command: Option<Command>,
    pub disk: Option<String>,
    pub docker_image: Option<String>,
    pub docker_username: Option<String>,
    pub health_check_endpoint: Option<String>,
    pub health_check_type: Option<String>,
    pub instances: Option<u32>,
    pub lifecycle: Option<String>,
    pub log_rate_limit: Option<String>,
    pub memory: Option<String>,
    pub no_route: bool,
    pub path: Option<PathBuf>,
    pub random_route: bool,
    pub stack: Option<String>,
    pub has_strategy: bool,
    pub timeout: Option<u64>,
}

/// A start command, or back to the default one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Default,
    Own(String),
}

impl Overrides {
    /// Changes the manifest as the flags say; with a strategy, scale is left to [`set_scale`].
    pub fn apply(&self, manifest: &mut Manifest, dir: &Path) -> Result<()> {
        self.choose_app(manifest)?;
        if manifest.apps_mut().len() > 1 && self.are_for_one_app() {
            return failed(
                "Incorrect Usage: Command line flags (except -f and --no-start) cannot be applied when pushing multiple apps from a manifest file.",
            );
        }
        self.change_one(manifest)?;
        let (from, given) = (manifest.path.clone(), self.path.is_some());
        let base =
            from.as_deref().and_then(Path::parent).filter(|_| !given).unwrap_or(dir).to_owned();
        for app in manifest.apps_mut() {
            let app = app.as_mapping_mut().expect("applications were checked to be maps");
            let says =
                |app: &Mapping, key: &str| app.get(key).and_then(Value::as_bool) == Some(true);
            if !says(app, "random-route") && !says(app, "no-route") {
                app.insert("default-route".into(), true.into());
            }
            if let Some(path) = super::text(app, "path") {
                let full = base.join(path);
                let real = full.canonicalize().map_err(|_| {
                    Error::Failed(format!(
                        "File not found locally, make sure the file exists at given path {}",
                        full.display()
                    ))
                })?;
                app.insert("path".into(), real.to_string_lossy().into_owned().into());
            }
        }
        Ok(())
    }

    fn are_for_one_app(&self) -> bool {
        let for_any = Overrides { name: self.name.clone(), ..Overrides::default() };
        *self != for_any
    }

    /// A name picks one of several apps, or renames the only one.
    fn choose_app(&self, manifest: &mut Manifest) -> Result<()> {
        let names = manifest.names();
        if names.len() > 1 && names.iter().any(String::is_empty) {
            return failed("Found an application with no name specified.");
        }
        match &self.name {
            None if names.iter().any(String::is_empty) => failed(
                "Incorrect Usage: The push command requires an app name. The app name can be supplied as an argument or with a manifest.yml file.",
            ),
            None => Ok(()),
            Some(name) if names.contains(name) => {
                manifest.keep(name);
                Ok(())
            }
            Some(name) if names.len() == 1 => {
                let app = manifest.apps_mut()[0]
                    .as_mapping_mut()
                    .expect("applications were checked to be maps");
                app.insert("name".into(), name.as_str().into());
                Ok(())
            }
            Some(name) => failed(format!("Could not find app named '{name}' in manifest")),
        }
    }

    fn change_one(&self, manifest: &mut Manifest) -> Result<()> {
        let app =
            manifest.apps_mut()[0].as_mapping_mut().expect("applications were checked to be maps");
        if app.contains_key("docker") {
            for (flag, given) in [
                ("--buildpack, -b", !self.buildpacks.is_empty()),
                ("--path, -p", self.path.is_some()),
            ] {
                if given {
                    return failed(format!(
                        "Incorrect Usage: The flag option {flag} cannot be used with the manifest property docker"
                    ));
                }
            }
        }
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                app.insert(key.into(), value);
            }
        };
        set("lifecycle", self.lifecycle.as_deref().map(Value::from));
        set("no-route", self.no_route.then(|| true.into()));
        set("random-route", self.random_route.then(|| true.into()));
        set("stack", self.stack.as_deref().map(Value::from));
        set("path", self.path.as_ref().map(|path| path.to_string_lossy().into_owned().into()));
        match self.buildpacks.first().map(String::as_str) {
            None => {}
            Some("null" | "default") => set("buildpacks", Some(Value::Sequence(Vec::new()))),
            Some(_) => set(
                "buildpacks",
                Some(self.buildpacks.iter().map(|name| Value::from(name.as_str())).collect()),
            ),
        }
        if !self.buildpacks.is_empty() {
            app.shift_remove("buildpack");
        }
        self.change_docker(app);
        self.change_process(app)?;
        if !self.has_strategy {
            set_scale(app, self);
        }
        Ok(())
    }

    fn change_docker(&self, app: &mut Mapping) {
        if self.docker_image.is_none() && self.docker_username.is_none() {
            return;
        }
        let docker = app.entry("docker".into()).or_insert_with(|| Value::Mapping(Mapping::new()));
        if !docker.is_mapping() {
            *docker = Value::Mapping(Mapping::new());
        }
        let docker = docker.as_mapping_mut().expect("made one if it was none");
        for (key, value) in [("image", &self.docker_image), ("username", &self.docker_username)] {
            if let Some(value) = value {
                docker.insert(key.into(), value.as_str().into());
            }
        }
    }

    /// Health checks and the start command belong to the web process, when the manifest has one.
    fn change_process(&self, app: &mut Mapping) -> Result<()> {
        let process = web_or_app(app);
        match &self.command {
            None => {}
            Some(Command::Default) => drop(process.insert("command".into(), Value::Null)),
            Some(Command::Own(command)) => {
                drop(process.insert("command".into(), command.as_str().into()))
            }
        }
        if let Some(kind) = &self.health_check_type {
            process.insert("health-check-type".into(), kind.as_str().into());
            if kind != "http" {
                process.shift_remove("health-check-http-endpoint");
            }
        }
        if let Some(endpoint) = &self.health_check_endpoint {
            process.insert("health-check-http-endpoint".into(), endpoint.as_str().into());
            let kind = process.get("health-check-type").and_then(Value::as_str);
            if let Some(kind) = kind.filter(|kind| !kind.is_empty() && *kind != "http") {
                return failed(format!(
                    "Incorrect Usage: The flag option --endpoint cannot be used with the manifest property health-check-type set to {kind}"
                ));
            }
        }
        if let Some(seconds) = self.timeout {
            process.insert("timeout".into(), seconds.into());
        }
        Ok(())
    }
}

/// Memory, disk, instances and log rate: part of the manifest, or of the deployment that rolls them out.
fn set_scale(app: &mut Mapping, flags: &Overrides) {
    let process = web_or_app(app);
    if let Some(count) = flags.instances {
        process.insert("instances".into(), count.into());
    }
    if let Some(disk) = &flags.disk {
        // The key has two spellings; only one may be said.
        let old = if process.contains_key("disk_quota") { "disk_quota" } else { "disk-quota" };
        process.insert(old.into(), disk.as_str().into());
    }
    for (key, value) in
        [("memory", &flags.memory), ("log-rate-limit-per-second", &flags.log_rate_limit)]
    {
        if let Some(value) = value {
            process.insert(key.into(), value.as_str().into());
        }
    }
}

fn web_or_app(app: &mut Mapping) -> &mut Mapping {
    let is_web = |process: &Value| process.get("type").and_then(Value::as_str) == Some("web");
    let web = app
        .get("processes")
        .and_then(Value::as_sequence)
        .and_then(|processes| processes.iter().position(is_web));
    match web {
        None => app,
        Some(index) => {
            let processes = app
                .get_mut("processes")
                .and_then(Value::as_sequence_mut)
                .expect("it was found there");
            processes[index].as_mapping_mut().expect("what has a type is a map")
        }
    }
}

impl Manifest {
    /// The manifest as it will be once a deployment has scaled the app.
    pub fn scaled(&self, flags: &Overrides) -> Manifest {
        let mut scaled = self.clone();
        if let Some(app) = scaled.apps_mut().first_mut().and_then(Value::as_mapping_mut) {
            set_scale(app, flags);
        }
        scaled
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::manifest::{Vars, parse};

    #[track_caller]
    fn check(text: &str, overrides: Overrides, want: Expect) {
        let root = parse(text, &Vars::new(), Path::new("manifest.yml")).unwrap();
        let mut manifest = Manifest { root, path: None, text: String::new() };
        let done = overrides.apply(&mut manifest, Path::new("/"));
        want.assert_eq(&done.map_or_else(|error| error.to_string(), |()| manifest.to_yaml()));
    }

    const ONE: &str = "applications:\n- name: a\n  disk_quota: 1G\n  buildpack: old\n";
    const TWO: &str = "applications:\n- name: a\n- name: b\n";

    #[test]
    fn flags_win() {
        let overrides = Overrides {
            name: Some("z".to_owned()),
            buildpacks: vec!["go".to_owned(), "ruby".to_owned()],
            command: Some(Command::Default),
            disk: Some("2G".to_owned()),
            instances: Some(3),
            memory: Some("64M".to_owned()),
            no_route: true,
            timeout: Some(90),
            ..Overrides::default()
        };
        check(
            ONE,
            overrides,
            expect![[r#"
            applications:
            - name: z
              disk_quota: 2G
              no-route: true
              buildpacks:
              - go
              - ruby
              command: null
              timeout: 90
              instances: 3
              memory: 64M
        "#]],
        );
    }

    #[test]
    fn a_web_process_takes_what_is_its_own() {
        let overrides = Overrides {
            memory: Some("1G".to_owned()),
            health_check_type: Some("process".to_owned()),
            ..Overrides::default()
        };
        check(
            "applications:\n- name: a\n  processes:\n  - type: worker\n  - type: web\n    health-check-http-endpoint: /x\n",
            overrides,
            expect![[r#"
            applications:
            - name: a
              processes:
              - type: worker
              - type: web
                health-check-type: process
                memory: 1G
              default-route: true
        "#]],
        );
    }

    #[test]
    fn a_strategy_leaves_scale_to_the_deployment() {
        let overrides =
            Overrides { memory: Some("1G".to_owned()), has_strategy: true, ..Overrides::default() };
        check(
            "applications:\n- name: a\n",
            overrides,
            expect![[r#"
            applications:
            - name: a
              default-route: true
        "#]],
        );
    }

    #[test]
    fn a_name_picks_an_app() {
        let named = |name: &str| Overrides { name: Some(name.to_owned()), ..Overrides::default() };
        check(
            TWO,
            named("b"),
            expect![[r#"
            applications:
            - name: b
              default-route: true
        "#]],
        );
        check(TWO, named("c"), expect!["Could not find app named 'c' in manifest"]);
        check(
            "applications:\n- memory: 1G\n",
            Overrides::default(),
            expect![
                "Incorrect Usage: The push command requires an app name. The app name can be supplied as an argument or with a manifest.yml file."
            ],
        );
    }

    #[test]
    fn flags_are_for_one_app() {
        check(
            TWO,
            Overrides { memory: Some("1G".to_owned()), ..Overrides::default() },
            expect![
                "Incorrect Usage: Command line flags (except -f and --no-start) cannot be applied when pushing multiple apps from a manifest file."
            ],
        );
    }

    #[test]
    fn contradictions_are_named() {
        let overrides =
            Overrides { health_check_endpoint: Some("/up".to_owned()), ..Overrides::default() };
        check(
            "applications:\n- name: a\n  health-check-type: port\n",
            overrides,
            expect![
                "Incorrect Usage: The flag option --endpoint cannot be used with the manifest property health-check-type set to port"
            ],
        );
        let overrides = Overrides { path: Some("/nowhere".into()), ..Overrides::default() };
        check(
            "applications:\n- name: a\n",
            overrides,
            expect!["File not found locally, make sure the file exists at given path /nowhere"],
        );
    }

    #[test]
    fn docker_comes_from_flags_too() {
        let overrides = Overrides {
            docker_image: Some("x/y:1".to_owned()),
            docker_username: Some("me".to_owned()),
            ..Overrides::default()
        };
        check(
            "applications:\n- name: a\n",
            overrides,
            expect![[r#"
            applications:
            - name: a
              docker:
                image: x/y:1
                username: me
              default-route: true
        "#]],
        );
    }
}
