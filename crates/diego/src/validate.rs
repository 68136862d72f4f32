//! What a client may desire. Each failure names its field, all of them at once.

mod egress;

use std::fmt;

use crate::action::{Action, ActionList};
use crate::bbs::ErrorKind;
use crate::desired_lrp::{Check, DesiredLrpUpdate, Routes, RunInfo};
use crate::{BbsError, DesiredLrp, TaskDefinition, TaskGuid};

pub const MAX_ANNOTATION: usize = 10 * 1024;
/// In sum.
const MAX_MOUNTED_FILES: usize = 1_000_000;
pub const MAX_ROUTES: usize = 128 * 1024;
/// More instances of one LRP than any cluster could hold; beyond it a number is a mistake.
pub const MAX_INSTANCES: u32 = 1_000_000;

/// The fields that are wrong. Shown as `Invalid field: a, Invalid field: b`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invalid(pub Vec<&'static str>);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, field) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}Invalid field: {field}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

impl From<Invalid> for BbsError {
    fn from(invalid: Invalid) -> BbsError {
        BbsError::new(ErrorKind::InvalidRequest, invalid.to_string())
    }
}

impl Invalid {
    fn unless(&mut self, right: bool, field: &'static str) {
        if !right {
            self.0.push(field);
        }
    }

    fn result(self) -> Result<(), Invalid> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl DesiredLrp {
    pub fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::default();
        invalid.unless(is_guid(self.process_guid.as_str()), "process_guid");
        invalid.unless(!self.domain.as_str().is_empty(), "domain");
        invalid.unless(self.instances <= MAX_INSTANCES, "instances");
        invalid.unless(self.annotation.len() <= MAX_ANNOTATION, "annotation");
        invalid.unless(routes_size(&self.routes) <= MAX_ROUTES, "routes");
        let source = self.metric_tags.get("source_id");
        invalid.unless(
            source.is_none_or(|source| *source == self.run.metrics_guid),
            "source_id should match metrics_guid",
        );
        run(&self.run, &mut invalid);
        invalid.result()
    }
}

impl DesiredLrpUpdate {
    pub fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::default();
        invalid
            .unless(self.instances.is_none_or(|instances| instances <= MAX_INSTANCES), "instances");
        invalid.unless(
            self.annotation.as_ref().is_none_or(|text| text.len() <= MAX_ANNOTATION),
            "annotation",
        );
        invalid.unless(
            self.routes.as_ref().is_none_or(|routes| routes_size(routes) <= MAX_ROUTES),
            "routes",
        );
        invalid.result()
    }
}

impl TaskDefinition {
    pub fn validate(&self, guid: &TaskGuid, domain: &crate::Domain) -> Result<(), Invalid> {
        let mut invalid = Invalid::default();
        invalid.unless(is_guid(guid.as_str()), "task_guid");
        invalid.unless(!domain.as_str().is_empty(), "domain");
        invalid.unless(self.annotation.len() <= MAX_ANNOTATION, "annotation");
        let callback = &self.completion_callback_url;
        invalid.unless(callback.is_empty() || is_absolute(callback), "completion_callback_url");
        run(&self.run, &mut invalid);
        invalid.result()
    }
}

/// `^[a-zA-Z0-9_-]+$`
fn is_guid(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// Has a scheme and something after it.
fn has_scheme(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let letters = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && letters && !rest.is_empty()
}

fn is_absolute(url: &str) -> bool {
    has_scheme(url)
        && url.split_once("://").is_some_and(|(_, rest)| !rest.is_empty() && !rest.starts_with('/'))
}

fn routes_size(routes: &Routes) -> usize {
    routes.iter().map(|(key, value)| key.len() + value.to_string().len()).sum()
}

fn run(run: &RunInfo, invalid: &mut Invalid) {
    invalid.unless(has_scheme(&run.rootfs), "rootfs");
    match &run.action {
        Some(wanted) => action(wanted, invalid),
        None => invalid.unless(false, "action"),
    }
    for optional in [&run.setup, &run.monitor].into_iter().flatten() {
        action(optional, invalid);
    }
    for sidecar in &run.sidecars {
        action(&sidecar.action, invalid);
    }
    invalid.unless(run.cpu_weight <= 100, "cpu_weight");
    invalid.unless(run.ports.iter().all(|port| *port != 0), "ports");
    invalid.unless(run.log_rate_limit >= -1, "log_rate_limit");
    invalid.unless(run.egress_rules.iter().all(egress::is_valid), "egress_rules");
    for dependency in &run.cached_dependencies {
        invalid
            .unless(!dependency.from.is_empty() && !dependency.to.is_empty(), "cached_dependency");
    }
    for layer in &run.image_layers {
        invalid.unless(!layer.url.is_empty() && !layer.destination_path.is_empty(), "image_layer");
        let exclusive = matches!(layer.digest_algorithm.as_str(), "sha256" | "sha512")
            && !layer.digest_value.is_empty();
        invalid.unless(exclusive, "image_layer digest");
    }
    for mount in &run.volume_mounts {
        let whole = !mount.driver.is_empty() && matches!(mount.mode.as_str(), "r" | "rw");
        invalid.unless(whole, "volume_mounts");
    }
    let files: usize = run.volume_mounted_files.iter().map(|file| file.content.len()).sum();
    invalid.unless(files <= MAX_MOUNTED_FILES, "volume_mounted_files");
    if let Some(definition) = &run.check_definition {
        let checks = definition.checks.iter().chain(&definition.readiness_checks);
        invalid.unless(checks.map(port).all(|port| port != 0), "check_definition");
    }
}

fn port(check: &Check) -> u16 {
    match check {
        Check::Tcp { port, .. } | Check::Http { port, .. } => *port,
    }
}

fn action(wanted: &Action, invalid: &mut Invalid) {
    match wanted {
        Action::Run(run) => {
            invalid.unless(!run.path.is_empty(), "path");
            invalid.unless(!run.user.is_empty(), "user");
        }
        Action::Download(download) => {
            invalid.unless(!download.from.is_empty(), "from");
            invalid.unless(!download.to.is_empty(), "to");
            invalid.unless(!download.user.is_empty(), "user");
            let known =
                matches!(download.checksum_algorithm.as_str(), "" | "md5" | "sha1" | "sha256");
            invalid.unless(known, "checksum_algorithm");
            let both = download.checksum_algorithm.is_empty() == download.checksum_value.is_empty();
            invalid.unless(both, "checksum_value");
        }
        Action::Upload(upload) => {
            invalid.unless(!upload.from.is_empty(), "from");
            invalid.unless(!upload.to.is_empty(), "to");
            invalid.unless(!upload.user.is_empty(), "user");
        }
        Action::Serial(ActionList { actions, .. })
        | Action::Parallel(ActionList { actions, .. })
        | Action::Codependent(ActionList { actions, .. }) => {
            invalid.unless(!actions.is_empty(), "actions");
            for inner in actions {
                action(inner, invalid);
            }
        }
        Action::Timeout(timeout) => {
            invalid.unless(timeout.timeout_ms > 0, "timeout_ms");
            action(&timeout.action, invalid);
        }
        Action::Try(attempt) => action(&attempt.action, invalid),
        Action::EmitProgress(progress) => action(&progress.action, invalid),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::action::RunAction;

    fn lrp() -> DesiredLrp {
        let action = RunAction {
            path: "/bin/true".to_owned(),
            user: "vcap".to_owned(),
            ..RunAction::default()
        };
        DesiredLrp {
            process_guid: "p-1_A".into(),
            domain: "d".into(),
            instances: 1,
            run: RunInfo {
                rootfs: "preloaded:base".to_owned(),
                action: Some(Action::Run(action)),
                ..RunInfo::default()
            },
            routes: Routes::default(),
            annotation: String::new(),
            metric_tags: Default::default(),
            modification_tag: Default::default(),
        }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut DesiredLrp), want: &str) {
        let mut lrp = lrp();
        change(&mut lrp);
        assert_eq!(
            lrp.validate().map_or_else(|invalid| invalid.to_string(), |()| "valid".to_owned()),
            want
        );
    }

    #[test]
    fn all_wrong_fields_are_named() {
        check(|_| {}, "valid");
        check(|lrp| lrp.process_guid = "a/b".into(), "Invalid field: process_guid");
        check(
            |lrp| {
                lrp.domain = "".into();
                lrp.run.action = None;
                lrp.run.rootfs = "cflinuxfs4".to_owned();
            },
            "Invalid field: domain, Invalid field: rootfs, Invalid field: action",
        );
        check(|lrp| lrp.annotation = "x".repeat(MAX_ANNOTATION + 1), "Invalid field: annotation");
        check(
            |lrp| drop(lrp.routes.insert("r".to_owned(), json!("x".repeat(MAX_ROUTES)))),
            "Invalid field: routes",
        );
        check(|lrp| lrp.run.log_rate_limit = -2, "Invalid field: log_rate_limit");
        check(|lrp| lrp.run.monitor = Some(Action::serial(Vec::new())), "Invalid field: actions");
        check(
            |lrp| lrp.run.setup = Some(Action::Run(RunAction::default()).attempt()),
            "Invalid field: path, Invalid field: user",
        );
    }

    #[test]
    fn callbacks_are_absolute_urls() {
        for (url, right) in [
            ("", true),
            ("http://a/b", true),
            ("http:///b", false),
            ("/b", false),
            ("nonsense", false),
        ] {
            let run = lrp().run;
            let definition = TaskDefinition {
                run,
                completion_callback_url: url.to_owned(),
                ..TaskDefinition::default()
            };
            assert_eq!(definition.validate(&"t".into(), &"d".into()).is_ok(), right, "{url}");
        }
    }
}
