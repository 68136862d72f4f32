//! Pure: what apps that asked for files find below `/etc/cf-service-bindings` in place of `VCAP_SERVICES`.

use std::collections::BTreeMap;

use diego::desired_lrp::VolumeMountedFile;
use serde_json::Value;

use super::environment::ServiceFiles;

/// Paths and contents together, Cloud Foundry's limit.
const MOST_BYTES: usize = 1_000_000;
const LONGEST_NAME: usize = 253;

/// The files for the value of `VCAP_SERVICES`, their paths relative to the folder; none when the app has the variable.
///
/// # Errors
/// Why such bindings cannot be files, for the user.
pub fn files(kind: ServiceFiles, services: &Value) -> Result<Vec<VolumeMountedFile>, String> {
    let files = match kind {
        ServiceFiles::None => return Ok(Vec::new()),
        ServiceFiles::VcapServices => {
            vec![VolumeMountedFile {
                path: "vcap_services".to_owned(),
                content: services.to_string(),
            }]
        }
        ServiceFiles::Bindings => folders(services)?,
    };
    let bytes: usize = files.iter().map(|file| file.path.len() + file.content.len()).sum();
    if bytes > MOST_BYTES {
        return Err(format!(
            "Bindings exceed the maximum allowed bytesize of {MOST_BYTES}: {bytes}"
        ));
    }
    Ok(files)
}

/// A folder for each binding, as the Service Binding Specification for Kubernetes has it.
fn folders(services: &Value) -> Result<Vec<VolumeMountedFile>, String> {
    let mut folders: BTreeMap<&str, BTreeMap<&str, String>> = BTreeMap::new();
    let labels = services.as_object().into_iter().flatten();
    let bindings = labels.flat_map(|(label, list)| {
        list.as_array().into_iter().flatten().map(move |binding| (label.as_str(), binding))
    });
    for (label, binding) in bindings {
        let name = binding["name"].as_str().unwrap_or_default();
        if !is_name(name, "-.") {
            return Err(format!(
                "Invalid binding name: '{name}'. It must be 1 to {LONGEST_NAME} of the characters a-z, 0-9, - and ."
            ));
        }
        let mut entries: BTreeMap<&str, String> = BTreeMap::new();
        // What the platform says wins over a credential of the same name.
        let credentials = binding["credentials"].as_object().into_iter().flatten();
        let own =
            binding.as_object().into_iter().flatten().filter(|(key, _)| *key != "credentials");
        for (key, value) in credentials.chain(own) {
            if !is_name(key, "-._") {
                return Err(format!(
                    "Invalid file name: '{key}'. It must be 1 to {LONGEST_NAME} of the characters a-z, 0-9, -, . and _"
                ));
            }
            if let Some(content) = content(value) {
                entries.insert(key, content);
            }
        }
        entries.insert("type", label.to_owned());
        entries.insert("provider", label.to_owned());
        if folders.insert(name, entries).is_some() {
            return Err(format!("Duplicate binding name: '{name}'"));
        }
    }
    let file = |folder: &str, (name, content): (&str, String)| VolumeMountedFile {
        path: format!("{folder}/{name}"),
        content,
    };
    Ok(folders
        .into_iter()
        .flat_map(|(folder, entries)| entries.into_iter().map(move |entry| file(folder, entry)))
        .collect())
}

fn is_name(name: &str, more: &str) -> bool {
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || more.contains(c);
    (1..=LONGEST_NAME).contains(&name.len())
        && name.chars().all(known)
        && !matches!(name, "." | "..")
}

/// Text as it is, anything else as JSON; what is empty makes no file.
fn content(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Array(list) if list.is_empty() => None,
        Value::Object(object) if object.is_empty() => None,
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn one(name: &str, credentials: Value) -> Value {
        json!({ "user-provided": [{
            "label": "user-provided", "name": name, "tags": ["list", "of"], "instance_name": name,
            "binding_name": null, "credentials": credentials, "volume_mounts": [], "syslog_drain_url": "",
        }] })
    }

    #[test]
    fn each_binding_is_a_folder_of_files() {
        let credentials =
            json!({ "username": "admin", "port": 5432, "label": "mine", "empty": "" });
        let files = files(ServiceFiles::Bindings, &one("my-db", credentials)).unwrap();
        let told: Vec<String> =
            files.iter().map(|file| format!("{}: {}", file.path, file.content)).collect();
        assert_eq!(
            told,
            [
                "my-db/instance_name: my-db",
                "my-db/label: user-provided",
                "my-db/name: my-db",
                "my-db/port: 5432",
                "my-db/provider: user-provided",
                r#"my-db/tags: ["list","of"]"#,
                "my-db/type: user-provided",
                "my-db/username: admin",
            ]
        );
    }

    #[test]
    fn the_variable_becomes_one_file() {
        let services = one("My_DB", json!({}));
        let files = files(ServiceFiles::VcapServices, &services).unwrap();
        assert_eq!((files[0].path.as_str(), files.len()), ("vcap_services", 1));
        assert_eq!(serde_json::from_str::<Value>(&files[0].content).unwrap(), services);
        assert_eq!(super::files(ServiceFiles::None, &services).unwrap(), []);
    }

    #[test]
    fn what_cannot_be_a_file_is_told() {
        let why = |services: &Value| files(ServiceFiles::Bindings, services).unwrap_err();
        assert!(why(&one("My_DB", json!({}))).contains("Invalid binding name: 'My_DB'"));
        assert!(why(&one("..", json!({}))).contains("Invalid binding name"));
        assert!(why(&one("db", json!({ "a/b": "x" }))).contains("Invalid file name: 'a/b'"));
        let mut twice = one("db", json!({}));
        twice["other"] = twice["user-provided"].clone();
        assert_eq!(why(&twice), "Duplicate binding name: 'db'");
        let large = one("db", json!({ "x": "x".repeat(MOST_BYTES) }));
        assert!(
            why(&large).starts_with("Bindings exceed the maximum allowed bytesize of 1000000: ")
        );
    }
}
