//! What an operator may choose about a cell's containers.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Named in the lines the cell writes into a container's log.
    pub cell_id: String,
    /// Recipes, journals and downloads lie here.
    pub dir: PathBuf,
    /// What containers announce as the cell's address (`CF_INSTANCE_IP`) when it is not the one garden tells.
    pub advertised_ip: Option<Ipv4Addr>,
    /// In place of the host's memory and disk.
    pub memory_mb: Option<u64>,
    pub disk_mb: Option<u64>,
    pub containers: u64,
    /// Downloads kept for the next time; the least recently used give way.
    pub cache_mb: u64,
    /// Unpacked layers; the oldest that no container uses give way.
    pub layers_mb: u64,
    /// One archive may be this large.
    pub download_mb: u64,
    pub creates_at_once: usize,
    pub deletes_at_once: usize,
    pub downloads_at_once: usize,
    pub uploads_at_once: usize,
    pub checks_at_once: usize,
    /// Lines that one container may log in a second, whatever their length; 0 = no limit.
    pub log_lines_per_second: u64,
    pub crashed: KeepCrashed,
    /// Drivers of volumes by name; each has a folder below which its volumes lie, on this machine or mounted from
    /// another.
    pub volume_drivers: BTreeMap<String, PathBuf>,
    pub timings: Timings,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            cell_id: "cell".to_owned(),
            dir: PathBuf::from("executor"),
            advertised_ip: None,
            memory_mb: None,
            disk_mb: None,
            containers: 1000,
            cache_mb: 10_240,
            layers_mb: 20_480,
            download_mb: 10_240,
            creates_at_once: 32,
            deletes_at_once: 32,
            downloads_at_once: 5,
            uploads_at_once: 5,
            checks_at_once: 64,
            log_lines_per_second: 0,
            crashed: KeepCrashed::default(),
            volume_drivers: BTreeMap::new(),
            timings: Timings::default(),
        }
    }
}

/// How much of crashed containers is kept, and for how long. Whichever bound is reached first, the oldest go.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeepCrashed {
    /// In milliseconds; 0 = none is kept.
    #[serde(with = "base::millis")]
    pub time: Duration,
    /// 0 = none is kept.
    pub containers: usize,
    /// So many of one process, so that who crashes often leaves room for others.
    pub of_one_group: usize,
    /// What their writable layers may take together.
    pub mb: u64,
    /// They give way when the disk has less than this left.
    pub free_disk_mb: u64,
}

impl Default for KeepCrashed {
    fn default() -> KeepCrashed {
        KeepCrashed {
            time: Duration::from_secs(3600),
            containers: 20,
            of_one_group: 2,
            mb: 2048,
            free_disk_mb: 1024,
        }
    }
}

/// Diego's, but for the first checks of a starting process: those come at once and then at growing intervals.
/// In files each is a number of milliseconds.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timings {
    /// From SIGTERM to SIGKILL.
    #[serde(with = "base::millis")]
    pub grace: Duration,
    /// How long a killed process may take to go.
    #[serde(with = "base::millis")]
    pub after_kill: Duration,
    #[serde(with = "base::millis")]
    pub first_check: Duration,
    /// The longest wait between two checks of what is not healthy yet.
    #[serde(with = "base::millis")]
    pub unhealthy_check: Duration,
    #[serde(with = "base::millis")]
    pub healthy_check: Duration,
    #[serde(with = "base::millis")]
    pub check_timeout: Duration,
    /// Monitors are processes: they begin slower, and slow down to this.
    #[serde(with = "base::millis")]
    pub first_monitor: Duration,
    #[serde(with = "base::millis")]
    pub unhealthy_monitor: Duration,
    #[serde(with = "base::millis")]
    pub metrics: Duration,
    /// The second sample, which brings the first figure of CPU use.
    #[serde(with = "base::millis")]
    pub second_sample: Duration,
    /// A reservation that nobody makes use of ends.
    #[serde(with = "base::millis")]
    pub reservation: Duration,
    /// How often reservations and strange containers are looked for.
    #[serde(with = "base::millis")]
    pub housekeeping: Duration,
    #[serde(with = "base::millis")]
    pub download: Duration,
    /// A download that brings nothing for so long is given up.
    #[serde(with = "base::millis")]
    pub download_idle: Duration,
    #[serde(with = "base::millis")]
    pub upload: Duration,
    #[serde(with = "base::millis")]
    pub first_retry: Duration,
    #[serde(with = "base::millis")]
    pub last_retry: Duration,
}

impl Default for Timings {
    fn default() -> Timings {
        let (ms, secs) = (Duration::from_millis, Duration::from_secs);
        Timings {
            grace: secs(10),
            after_kill: secs(1),
            first_check: ms(5),
            unhealthy_check: ms(500),
            healthy_check: secs(30),
            check_timeout: secs(1),
            first_monitor: ms(50),
            unhealthy_monitor: secs(2),
            metrics: secs(15),
            second_sample: ms(1500),
            reservation: secs(60),
            housekeeping: secs(30),
            download: secs(600),
            download_idle: secs(10),
            upload: secs(600),
            first_retry: ms(500),
            last_retry: secs(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_milliseconds_and_unknown_names_refused() {
        let config: Config = serde_json::from_str(r#"{"timings":{"grace":250}}"#).unwrap();
        assert_eq!(config.timings.grace, Duration::from_millis(250));
        assert_eq!(config.timings.metrics, Duration::from_secs(15));
        assert!(serde_json::from_str::<Config>(r#"{"timings":{"grave":1}}"#).is_err());
    }
}
