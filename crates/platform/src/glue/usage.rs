//! Cloud Controller's stats come from the metrics that cells send to the log store.

use std::time::Duration;

use base::Clock;
use cloud_controller::{ContainerMetrics, Usage};
use loggregator::Loggregator;

pub struct FromLogs {
    pub logs: Loggregator,
    pub clock: Clock,
}

/// Older figures say nothing of now.
const FRESH: Duration = Duration::from_secs(120);

impl ContainerMetrics for FromLogs {
    fn latest(&self, source_id: &str, process_id: &str, instance: u32) -> Option<Usage> {
        let latest = self.logs.latest(source_id, process_id, instance)?;
        if self.clock.now().since(latest.at) > FRESH {
            return None;
        }
        let gauge = |name: &str| latest.gauges.get(name).copied().unwrap_or(0.0).max(0.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bytes, and never negative"
        )]
        let bytes = |name: &str| gauge(name) as u64;
        Some(Usage {
            at: latest.at,
            cpu: gauge("cpu") / 100.0,
            cpu_entitlement: gauge("cpu_entitlement") / 100.0,
            memory_bytes: bytes("memory"),
            disk_bytes: bytes("disk"),
            log_rate: bytes("log_rate"),
        })
    }
}
