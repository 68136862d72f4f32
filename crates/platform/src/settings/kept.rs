//! How long what happened is kept: table `[kept]` of the file.

use std::time::Duration;

use cloud_controller::config;
use serde::{Deserialize, Serialize};

use super::values::Whole;

/// At most a hundred years.
type Days = Whole<1, 36_500>;
/// At most a pebibyte.
type Megabytes = Whole<0, { 1 << 30 }>;

/// What is left out has Cloud Foundry's value.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kept {
    pub audit_events_days: Days,
    pub app_usage_events_days: Days,
    pub service_usage_events_days: Days,
    /// After they ended.
    pub completed_tasks_days: Days,
    /// Of files that clients need not send again.
    pub resources_mb: Megabytes,
}

impl Default for Kept {
    fn default() -> Kept {
        let default = config::Kept::default();
        let days = |span: Duration| {
            Days::new(span.as_secs() / DAY).expect("the default is a number of days")
        };
        Kept {
            audit_events_days: days(default.audit_events),
            app_usage_events_days: days(default.app_usage_events),
            service_usage_events_days: days(default.service_usage_events),
            completed_tasks_days: days(default.completed_tasks),
            resources_mb: Megabytes::new(default.resource_bytes >> 20)
                .expect("the default is within the range"),
        }
    }
}

impl From<Kept> for config::Kept {
    fn from(kept: Kept) -> config::Kept {
        let span = |days: Days| Duration::from_secs(days.get() * DAY);
        config::Kept {
            audit_events: span(kept.audit_events_days),
            app_usage_events: span(kept.app_usage_events_days),
            service_usage_events: span(kept.service_usage_events_days),
            completed_tasks: span(kept.completed_tasks_days),
            resource_bytes: kept.resources_mb.get() << 20,
        }
    }
}

const DAY: u64 = 24 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_reaches_the_cloud_controller_and_the_rest_stays() {
        let kept: Kept =
            toml::from_str("audit_events_days = 7\nresources_mb = 0").expect("a table");
        let (told, default) = (config::Kept::from(kept), config::Kept::default());
        assert_eq!(told.audit_events, Duration::from_secs(7 * DAY));
        assert_eq!(told.resource_bytes, 0);
        assert_eq!(told.completed_tasks, default.completed_tasks);
        assert_eq!(config::Kept::from(Kept::default()).resource_bytes, default.resource_bytes);
    }
}
