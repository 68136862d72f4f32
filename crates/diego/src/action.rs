//! What a container is told to do. Each action is a JSON object with one key, as in the Receptor API.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Run(RunAction),
    Download(DownloadAction),
    Upload(UploadAction),
    /// One after the other; stops at the first failure.
    Serial(ActionList),
    /// All at once; waits for all.
    Parallel(ActionList),
    /// All at once; when one ends the others are cancelled.
    Codependent(ActionList),
    Timeout(TimeoutAction),
    Try(TryAction),
    EmitProgress(EmitProgressAction),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunAction {
    pub path: String,
    pub args: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dir: String,
    pub env: Vec<EnvVar>,
    #[serde(skip_serializing_if = "ResourceLimits::is_none")]
    pub resource_limits: ResourceLimits,
    pub user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub log_source: String,
    pub suppress_log_output: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    pub name: String,
    pub value: String,
}

impl EnvVar {
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> EnvVar {
        EnvVar { name: name.into(), value: value.into() }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceLimits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nofile: Option<u64>,
}

impl ResourceLimits {
    fn is_none(&self) -> bool {
        self.nofile.is_none()
    }
}

/// Fetches an archive (tgz, tar or zip) and unpacks it at `to`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DownloadAction {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub artifact: String,
    /// An http(s) URL; user information in it is sent as basic authentication.
    pub from: String,
    pub to: String,
    /// Kept on the cell under this key; empty = not kept.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cache_key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub log_source: String,
    pub user: String,
    /// `md5`, `sha1` or `sha256`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub checksum_algorithm: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub checksum_value: String,
}

/// Posts one file of the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UploadAction {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub artifact: String,
    pub from: String,
    pub to: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub log_source: String,
    pub user: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ActionList {
    pub actions: Vec<Action>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub log_source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeoutAction {
    pub action: Box<Action>,
    pub timeout_ms: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub log_source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TryAction {
    pub action: Box<Action>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub log_source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmitProgressAction {
    pub action: Box<Action>,
    #[serde(default)]
    pub start_message: String,
    #[serde(default)]
    pub success_message: String,
    #[serde(default)]
    pub failure_message_prefix: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub log_source: String,
}

impl Action {
    pub fn serial(actions: Vec<Action>) -> Action {
        Action::Serial(ActionList { actions, log_source: String::new() })
    }

    pub fn parallel(actions: Vec<Action>) -> Action {
        Action::Parallel(ActionList { actions, log_source: String::new() })
    }

    pub fn timeout(self, timeout: std::time::Duration) -> Action {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        Action::Timeout(TimeoutAction {
            action: Box::new(self),
            timeout_ms,
            log_source: String::new(),
        })
    }

    pub fn attempt(self) -> Action {
        Action::Try(TryAction { action: Box::new(self), log_source: String::new() })
    }

    pub fn progress(self, start: &str, success: &str, failure_prefix: &str) -> Action {
        Action::EmitProgress(EmitProgressAction {
            action: Box::new(self),
            start_message: start.to_owned(),
            success_message: success.to_owned(),
            failure_message_prefix: failure_prefix.to_owned(),
            log_source: String::new(),
        })
    }
}
