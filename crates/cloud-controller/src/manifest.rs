//! App manifests: read from YAML, checked, compared with what is there. Knows no database.

pub mod diff;
pub mod random_route;
pub mod read;
pub mod read_process;
pub mod route;
pub mod units;

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::Value;

use crate::db::metadata::MetadataPatch;
use crate::errors::{ApiError, ApiResult, Kind};
use crate::v3::processes::{Patch, Scale};

pub use route::ManifestRoute;

/// One entry of `applications`, understood. What it does not name stays as it is.
#[derive(Clone, Debug, Default)]
pub struct AppManifest {
    pub name: String,
    pub lifecycle: Option<String>,
    pub docker: bool,
    /// Empty = detect.
    pub buildpacks: Option<Vec<String>>,
    pub stack: Option<String>,
    pub env: BTreeMap<String, String>,
    pub features: BTreeMap<String, bool>,
    pub routes: Routes,
    pub services: Vec<ManifestService>,
    pub processes: Vec<ManifestProcess>,
    pub sidecars: Vec<ManifestSidecar>,
    pub metadata: MetadataPatch,
    /// As it came, for the audit event, with secrets hidden.
    pub shown: Value,
}

/// What a manifest says about routes.
#[derive(Clone, Debug, Default)]
pub enum Routes {
    #[default]
    Keep,
    None,
    These(Vec<ManifestRoute>),
    /// One with a random name, unless the app has a route.
    Random,
    /// One by the app's name, unless the app has a route.
    Default,
}

#[derive(Clone, Debug)]
pub struct ManifestService {
    pub name: String,
    pub binding_name: Option<String>,
    pub parameters: Option<Value>,
}

#[derive(Clone, Debug, Default)]
pub struct ManifestProcess {
    pub kind: String,
    pub patch: Patch,
    pub scale: Scale,
}

#[derive(Clone, Debug, Default)]
pub struct ManifestSidecar {
    pub name: String,
    pub command: String,
    pub process_types: Vec<String>,
    pub memory_mb: Option<i64>,
}

/// The entries of `applications`, as they stand.
///
/// # Errors
/// 400 for what is no YAML, with the line, and for aliases; 422 for another version or no applications.
pub fn applications(text: &str) -> ApiResult<Vec<Value>> {
    if has_alias(text) {
        return Err(ApiError::bad_request("Manifest does not support Anchors and Aliases"));
    }
    let wrong = |why: &dyn std::fmt::Display| {
        let detail = format!("Request invalid due to parse error: invalid request body: {why}");
        Kind::MessageParseError.with(detail)
    };
    let document: Value = crate::yaml::from_str(text).map_err(|error| wrong(&error))?;
    if !document.is_object() {
        return Err(wrong(&"a manifest is a map with the key 'applications'"));
    }
    let version = document.get("version").filter(|version| !version.is_null());
    if version.is_some_and(|version| version.as_i64() != Some(1)) {
        let detail = "Unsupported manifest schema version. Currently supported versions: [1].";
        return Err(ApiError::unprocessable(detail));
    }
    let applications =
        document.get("applications").and_then(Value::as_array).filter(|list| !list.is_empty());
    let applications = applications.ok_or_else(|| {
        ApiError::unprocessable("Cannot parse manifest with no 'applications' field.")
    })?;
    Ok(applications.clone())
}

/// Whether the YAML refers to an anchor. The parser knows best where a star begins a reference: once every star has
/// another name, it misses the anchor of just those that are one.
fn has_alias(text: &str) -> bool {
    text.contains('*')
        && crate::yaml::from_str::<IgnoredAny>(&text.replace('*', "*no_such_anchor_"))
            .is_err_and(|error| error.to_string().contains("unknown anchor"))
}

/// All of `applications`, understood.
///
/// # Errors
/// 422 with an error for every problem of every application.
pub fn parse(applications: &[Value]) -> ApiResult<Vec<AppManifest>> {
    let (mut manifests, mut problems) = (Vec::new(), Vec::new());
    for (at, application) in applications.iter().enumerate() {
        let (manifest, wrong) = read::application(application);
        let who = match manifest.name.as_str() {
            "" => format!("For application at index {at}"),
            name => format!("For application '{name}'"),
        };
        problems.extend(wrong.into_iter().map(|problem| format!("{who}: {problem}")));
        manifests.push(manifest);
    }
    if problems.is_empty() { Ok(manifests) } else { Err(ApiError::unprocessable_all(problems)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let applications = applications(text).unwrap();
        parse(&applications).unwrap_err().0.into_iter().map(|(_, detail)| detail).collect()
    }

    #[test]
    fn what_stands_above_the_applications_is_checked() {
        let told = |text: &str| applications(text).unwrap_err().to_string();
        assert!(
            told("version: 2\napplications: [{name: a}]")
                .starts_with("Unsupported manifest schema version")
        );
        assert_eq!(told("applications: []"), "Cannot parse manifest with no 'applications' field.");
        let broken = told("applications:\n- name: a\n  routes: [\n");
        assert!(broken.starts_with("Request invalid due to parse error: invalid request body: "));
        assert!(broken.contains("at line 4 column 1"), "{broken}");
        assert!(told("- a").ends_with("a manifest is a map with the key 'applications'"));
    }

    #[test]
    fn aliases_are_refused_and_stars_are_not() {
        let told =
            |text: &str| applications(text).map(|list| list.len()).map_err(|e| e.to_string());
        let alias = "Bad request: Manifest does not support Anchors and Aliases".to_owned();
        let merged = "x: &x {memory: 1G}\napplications:\n- <<: *x\n  name: a\n";
        assert_eq!(told(merged), Err(alias.clone()));
        let laughs = "a: &a [x, x]\nb: &b [*a, *a]\napplications: [*b]";
        assert_eq!(told(laughs), Err(alias.clone()));
        assert_eq!(told("applications: [{name: a, env: {A: *a}}]"), Err(alias));
        let stars = "# *x\napplications:\n- name: &n a\n  env: {A: '*x', B: 2*3, C: \"**\"}\n  routes:\n  - route: '*.example.com'\n  command: |\n    echo\n    *x\n";
        assert_eq!(told(stars), Ok(1));
    }

    #[test]
    fn every_problem_names_its_app() {
        let text = "applications:\n- name: a\n  memory: lots\n  instances: -1\n- disk_quota: 1X\n";
        let expected = expect_test::expect![[r#"
            [
                "For application 'a': Process \"web\": Memory is not a number",
                "For application 'a': Process \"web\": Instances must be greater than or equal to 0",
                "For application at index 1: Name must not be empty",
                "For application at index 1: Process \"web\": Disk quota must use a supported unit: B, K, KB, M, MB, G, GB, T, or TB",
            ]
        "#]];
        expected.assert_debug_eq(&problems(text));
    }

    #[test]
    fn top_level_keys_are_the_web_process_unless_it_has_its_own() {
        let text =
            "applications:\n- name: a\n  memory: 1G\n  processes: [{type: worker, instances: 2}]";
        let apps = parse(&applications(text).unwrap()).unwrap();
        let shown: Vec<_> = apps[0]
            .processes
            .iter()
            .map(|p| (p.kind.as_str(), p.scale.memory_mb, p.scale.instances))
            .collect();
        assert_eq!(shown, [("web", Some(1024), None), ("worker", None, Some(2))]);
        let text =
            "applications:\n- name: a\n  memory: 1G\n  processes: [{type: web, memory: 64M}]";
        let apps = parse(&applications(text).unwrap()).unwrap();
        assert_eq!(apps[0].processes[0].scale.memory_mb, Some(64));
    }

    #[test]
    fn values_of_variables_become_texts() {
        let apps = parse(
            &applications("applications:\n- name: a\n  env: {A: 1, B: true, C: x, D: 1.5}")
                .unwrap(),
        )
        .unwrap();
        let shown: Vec<_> =
            apps[0].env.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(shown, ["A=1", "B=true", "C=x", "D=1.5"]);
    }
}
