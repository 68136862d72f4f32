//! What a container uses, as the platform's metrics tell: a seam, since this crate reads no logs.

/// The newest known use of one instance.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    pub at: base::Timestamp,
    /// 1 = one core.
    pub cpu: f64,
    /// 1 = all that it is entitled to.
    pub cpu_entitlement: f64,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    /// Bytes of log a second.
    pub log_rate: u64,
}

/// `platform` hands one that asks the log cache; `testing` has one that knows nothing.
pub trait ContainerMetrics: Send + Sync {
    /// `source_id` is the app, `process_id` the process; `None` when nothing is known (yet).
    fn latest(&self, source_id: &str, process_id: &str, instance: u32) -> Option<Usage>;
}
