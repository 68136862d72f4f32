//! A long running process as it is wanted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::action::{Action, EnvVar};
use crate::{Domain, ModificationTag, ProcessGuid};

/// Immutable after it was desired, but for `instances`, `routes`, `annotation` and `metric_tags`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DesiredLrp {
    pub process_guid: ProcessGuid,
    pub domain: Domain,
    pub instances: u32,
    #[serde(flatten)]
    pub run: RunInfo,
    /// Opaque to Diego, keyed by who reads it: `cf-router` for HTTP routes.
    #[serde(default)]
    pub routes: Routes,
    #[serde(default)]
    pub annotation: String,
    #[serde(default)]
    pub metric_tags: BTreeMap<String, String>,
    #[serde(default)]
    pub modification_tag: ModificationTag,
}

pub type Routes = BTreeMap<String, Value>;

/// What never changes about an LRP, and what a task shares with it: where it runs, with how much, and what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunInfo {
    /// `preloaded:STACK`, or `docker://…`.
    pub rootfs: String,
    pub env: Vec<EnvVar>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup: Option<Action>,
    /// Always there in a valid record.
    pub action: Option<Action>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitor: Option<Action>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_definition: Option<CheckDefinition>,
    /// 0 = wait for ever.
    pub start_timeout_ms: u64,
    pub memory_mb: u64,
    pub disk_mb: u64,
    /// 0 = no limit.
    pub max_pids: u64,
    /// 1 to 100; 0 counts as 1.
    pub cpu_weight: u32,
    pub privileged: bool,
    pub ports: Vec<u16>,
    pub egress_rules: Vec<Value>,
    /// Unpacked once per cell, mounted read-only at `to`.
    pub cached_dependencies: Vec<CachedDependency>,
    /// Unpacked once per cell, laid under the writable layer.
    pub image_layers: Vec<ImageLayer>,
    pub placement_tags: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volume_mounts: Vec<VolumeMount>,
    /// Files below `/etc/cf-service-bindings`, there before anything runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volume_mounted_files: Vec<VolumeMountedFile>,
    /// What the certificate says by which the container shows who it is; it has one in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_properties: Option<Box<CertificateProperties>>,
    pub log_guid: String,
    pub log_source: String,
    /// Empty = no container metrics.
    pub metrics_guid: String,
    /// Bytes per second; -1 = no limit, as for those who know nothing of it.
    pub log_rate_limit: i64,
    pub sidecars: Vec<Sidecar>,
}

impl Default for RunInfo {
    fn default() -> RunInfo {
        RunInfo {
            rootfs: String::new(),
            env: Vec::new(),
            setup: None,
            action: None,
            monitor: None,
            check_definition: None,
            start_timeout_ms: 0,
            memory_mb: 0,
            disk_mb: 0,
            max_pids: 0,
            cpu_weight: 0,
            privileged: false,
            ports: Vec::new(),
            egress_rules: Vec::new(),
            cached_dependencies: Vec::new(),
            volume_mounts: Vec::new(),
            volume_mounted_files: Vec::new(),
            certificate_properties: None,
            image_layers: Vec::new(),
            placement_tags: Vec::new(),
            log_guid: String::new(),
            log_source: String::new(),
            metrics_guid: String::new(),
            log_rate_limit: -1,
            sidecars: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CachedDependency {
    pub name: String,
    pub from: String,
    pub to: String,
    pub cache_key: String,
    pub checksum_algorithm: String,
    pub checksum_value: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageLayer {
    pub name: String,
    pub url: String,
    pub destination_path: String,
    /// `sha256` (hexadecimal value); the layer's identity on every cell.
    pub digest_algorithm: String,
    pub digest_value: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CertificateProperties {
    /// Units of the subject, such as `app:GUID`.
    pub organizational_unit: Vec<String>,
}

/// A volume of a service, laid into the container by the cell's driver of that name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeMount {
    pub driver: String,
    pub container_dir: String,
    /// `r` or `rw`.
    pub mode: String,
    pub shared: SharedDevice,
}

/// A file that a container finds, for instance a credential of a service binding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeMountedFile {
    pub path: String,
    pub content: String,
}

/// Which volume, and what its driver is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SharedDevice {
    pub volume_id: String,
    pub mount_config: Value,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sidecar {
    pub action: Action,
    #[serde(default)]
    pub memory_mb: u64,
    #[serde(default)]
    pub disk_mb: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckDefinition {
    pub checks: Vec<Check>,
    pub readiness_checks: Vec<Check>,
    pub log_source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    #[serde(rename = "tcp_check")]
    Tcp {
        port: u16,
        /// 0 = the default, 1 s.
        #[serde(default)]
        connect_timeout_ms: u64,
        /// 0 = the default, 2 s until healthy and 30 s after.
        #[serde(default)]
        interval_ms: u64,
    },
    #[serde(rename = "http_check")]
    Http {
        port: u16,
        path: String,
        #[serde(default)]
        request_timeout_ms: u64,
        #[serde(default)]
        interval_ms: u64,
    },
}

/// An absent field stays as it is; `routes` and `metric_tags` are replaced whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DesiredLrpUpdate {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routes: Option<Routes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric_tags: Option<BTreeMap<String, String>>,
}

/// What a bulk sync compares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SchedulingInfo {
    pub process_guid: ProcessGuid,
    pub domain: Domain,
    pub instances: u32,
    pub annotation: String,
    pub routes: Routes,
    pub modification_tag: ModificationTag,
}

impl DesiredLrp {
    pub fn scheduling_info(&self) -> SchedulingInfo {
        SchedulingInfo {
            process_guid: self.process_guid.clone(),
            domain: self.domain.clone(),
            instances: self.instances,
            annotation: self.annotation.clone(),
            routes: self.routes.clone(),
            modification_tag: self.modification_tag.clone(),
        }
    }

    /// Applies an update and counts the version on.
    pub fn updated(mut self, update: DesiredLrpUpdate) -> DesiredLrp {
        self.instances = update.instances.unwrap_or(self.instances);
        self.routes = update.routes.unwrap_or(self.routes);
        self.annotation = update.annotation.unwrap_or(self.annotation);
        self.metric_tags = update.metric_tags.unwrap_or(self.metric_tags);
        self.modification_tag = self.modification_tag.next();
        self
    }
}
