//! The parts of v3 resources that the command line reads. Whatever else a server sends is ignored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::V3Error;

/// Anything with a guid and a name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Named {
    pub guid: String,
    pub name: String,
    pub relationships: BTreeMap<String, Related>,
}

impl Named {
    pub fn related(&self, name: &str) -> Option<&str> {
        related(&self.relationships, name)
    }
}

/// A to-one relationship, which servers leave out or set to null when there is none; to-many ones are not read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Related(Value);

pub fn related<'a>(relationships: &'a BTreeMap<String, Related>, name: &str) -> Option<&'a str> {
    relationships.get(name)?.0.get("data")?.get("guid")?.as_str()
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct App {
    pub guid: String,
    pub name: String,
    pub state: String,
    pub lifecycle: Lifecycle,
}

impl App {
    pub fn is_started(&self) -> bool {
        self.state == "STARTED"
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Lifecycle {
    #[serde(rename = "type")]
    pub kind: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Process {
    pub guid: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub command: Option<String>,
    pub memory_in_mb: u64,
    pub health_check: HealthCheck,
    pub readiness_health_check: HealthCheck,
    pub relationships: BTreeMap<String, Related>,
    pub process_instances: Vec<Instance>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct HealthCheck {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub data: HealthCheckData,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct HealthCheckData {
    pub endpoint: Option<String>,
    pub invocation_timeout: Option<u64>,
    pub interval: Option<u64>,
}

/// One instance, from stats or embedded in a process.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Instance {
    pub index: u64,
    pub state: String,
    pub usage: Usage,
    pub mem_quota: Option<u64>,
    pub disk_quota: Option<u64>,
    pub log_rate_limit: Option<i64>,
    pub uptime: u64,
    pub details: Option<String>,
    pub routable: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Usage {
    pub cpu: Option<f64>,
    pub cpu_entitlement: Option<f64>,
    pub mem: Option<u64>,
    pub disk: Option<u64>,
    pub log_rate: Option<u64>,
}

/// `GET /v3/processes/:guid/stats`: a list without pages.
#[derive(Debug, Default, Deserialize)]
pub struct Stats {
    #[serde(default)]
    pub resources: Vec<Instance>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Domain {
    pub guid: String,
    pub name: String,
    pub internal: bool,
    pub router_group: Option<Value>,
    pub supported_protocols: Vec<String>,
    pub relationships: BTreeMap<String, Related>,
}

impl Domain {
    pub fn is_shared(&self) -> bool {
        related(&self.relationships, "organization").is_none()
    }

    pub fn is_tcp(&self) -> bool {
        self.supported_protocols.iter().any(|protocol| protocol == "tcp")
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Route {
    pub guid: String,
    pub host: String,
    pub path: String,
    pub port: Option<u16>,
    pub protocol: String,
    pub url: String,
    pub destinations: Vec<Destination>,
    pub options: Option<BTreeMap<String, Value>>,
    pub relationships: BTreeMap<String, Related>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Destination {
    pub guid: String,
    pub app: DestinationApp,
    pub port: Option<u16>,
    pub protocol: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct DestinationApp {
    pub guid: String,
    pub process: DestinationProcess,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct DestinationProcess {
    #[serde(rename = "type")]
    pub kind: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Droplet {
    pub guid: String,
    pub state: String,
    pub created_at: String,
    pub stack: Option<String>,
    pub image: Option<String>,
    pub buildpacks: Option<Vec<DropletBuildpack>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct DropletBuildpack {
    pub name: Option<String>,
    pub version: Option<String>,
    pub detect_output: Option<String>,
    pub buildpack_name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Build {
    pub guid: String,
    pub state: String,
    pub error: Option<String>,
    pub droplet: Option<Named>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Package {
    pub guid: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub state: String,
    pub created_at: String,
    pub data: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Deployment {
    pub guid: String,
    pub created_at: String,
    pub strategy: String,
    pub status: DeploymentStatus,
    pub options: Option<DeploymentOptions>,
    pub new_processes: Vec<Process>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct DeploymentStatus {
    pub value: String,
    pub reason: String,
    pub details: Value,
    pub canary: Option<Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct DeploymentOptions {
    pub max_in_flight: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Task {
    pub guid: String,
    pub sequence_id: u64,
    pub name: String,
    pub command: Option<String>,
    pub state: String,
    pub created_at: String,
    pub memory_in_mb: u64,
    pub disk_in_mb: u64,
    pub log_rate_limit_in_bytes_per_second: i64,
    pub result: TaskResult,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct TaskResult {
    pub failure_reason: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Event {
    #[serde(rename = "type")]
    pub kind: String,
    pub created_at: String,
    pub actor: Actor,
    pub data: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Actor {
    pub name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Job {
    pub guid: String,
    pub state: String,
    pub errors: Vec<V3Error>,
    pub warnings: Vec<JobWarning>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct JobWarning {
    pub detail: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Stack {
    pub guid: String,
    pub name: String,
    pub description: Option<String>,
    pub state: Option<String>,
    pub state_reason: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SecurityGroup {
    pub guid: String,
    pub name: String,
    pub rules: Vec<Rule>,
    pub globally_enabled: Globally,
    pub relationships: SecurityGroupSpaces,
}

/// One rule, shown with its keys in this order.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Rule {
    pub protocol: String,
    pub destination: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<bool>,
}

/// For which phases a security group holds everywhere.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Globally {
    pub running: bool,
    pub staging: bool,
}

/// The spaces a security group is bound to, by phase.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SecurityGroupSpaces {
    pub running_spaces: RelatedMany,
    pub staging_spaces: RelatedMany,
}

/// A to-many relationship.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RelatedMany {
    pub data: Vec<Guid>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Guid {
    pub guid: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Revision {
    pub guid: String,
    pub version: u64,
    pub description: String,
    pub deployable: bool,
    pub droplet: Guid,
    pub created_at: String,
    pub metadata: Metadata,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Metadata {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ServiceInstance {
    pub guid: String,
    pub name: String,
    /// `managed` or `user-provided`.
    #[serde(rename = "type")]
    pub kind: String,
    pub tags: Vec<String>,
    pub syslog_drain_url: Option<String>,
    pub route_service_url: Option<String>,
    pub dashboard_url: Option<String>,
    pub upgrade_available: Option<bool>,
    pub last_operation: Option<LastOperation>,
    pub relationships: BTreeMap<String, Related>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct LastOperation {
    #[serde(rename = "type")]
    pub kind: String,
    pub state: String,
    pub description: Option<String>,
    pub created_at: String,
    pub updated_at: String,
}

/// A service bound to an app, or to a route.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Binding {
    pub guid: String,
    pub name: Option<String>,
    pub created_at: String,
    pub last_operation: Option<LastOperation>,
    pub relationships: BTreeMap<String, Related>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Feature {
    pub name: String,
    pub enabled: bool,
}
