//! Measures one container at a steady beat and sends what it finds.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use base::Timestamp;
use envelope::{Envelope, GaugeValue, Message, Source};
use garden::Metrics;
use tokio::time::sleep;
use tracing::debug;

use crate::container::Usage;
use crate::scene::Scene;

/// What figures are set against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quotas {
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    /// The share of the cell's cores that goes with the share of its memory.
    pub entitled_cores: f64,
}

/// One look at a container.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub at: Timestamp,
    pub age: Duration,
    pub metrics: Metrics,
}

/// Measures at once, a little later (rates need two samples), and then at the usual beat. Never ends.
pub(crate) async fn measure(
    scene: &Scene,
    created_at: Timestamp,
    quotas: Quotas,
    guid: &str,
    keep: impl Fn(Usage),
) -> Infallible {
    let (mut last, mut spike): (Option<Sample>, Option<Spike>) = (None, None);
    loop {
        let wait = if last.is_none() { scene.timings.second_sample } else { scene.timings.metrics };
        match scene.garden.metrics(&scene.handle).await {
            Ok(metrics) => {
                let at = scene.clock.now();
                let sample = Sample { at, age: at.since(created_at), metrics };
                keep(usage(&sample, last.as_ref()));
                spike = spiking(spike, at, over(&sample, quotas));
                if !guid.is_empty() {
                    send(scene, &scene.log.source(guid), &sample, last.as_ref(), quotas, spike);
                }
                last = Some(sample);
            }
            Err(error) => {
                debug!(container.guid = %scene.handle, %error, "a container could not be measured")
            }
        }
        sleep(wait).await;
    }
}

pub(crate) fn usage(now: &Sample, before: Option<&Sample>) -> Usage {
    Usage {
        memory_bytes: now.metrics.memory_bytes,
        disk_bytes: now.metrics.disk_bytes,
        cpu_nanos: now.metrics.cpu_nanos,
        cpu_percent: cpu_percent(now, before),
    }
}

fn over(now: &Sample, quotas: Quotas) -> bool {
    as_f64(now.metrics.cpu_nanos) > entitlement(now, quotas)
}

/// Nanoseconds of CPU time that the container has been entitled to since it was made.
fn entitlement(now: &Sample, quotas: Quotas) -> f64 {
    now.age.as_secs_f64() * 1e9 * quotas.entitled_cores
}

/// A time in which a container has used more than it was entitled to; the last one is told again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spike {
    began: Timestamp,
    ended: Option<Timestamp>,
}

fn spiking(last: Option<Spike>, now: Timestamp, over: bool) -> Option<Spike> {
    match (last, over) {
        (None | Some(Spike { ended: Some(_), .. }), true) => {
            Some(Spike { began: now, ended: None })
        }
        (Some(Spike { began, ended: None }), false) => Some(Spike { began, ended: Some(now) }),
        (same, _) => same,
    }
}

/// 100 = one core all the time since the last sample.
fn cpu_percent(now: &Sample, before: Option<&Sample>) -> f64 {
    before
        .map_or(0.0, |before| 100.0 * ratio(spent(now, before), now.at.since(before.at).as_nanos()))
}

fn spent(now: &Sample, before: &Sample) -> u128 {
    u128::from(now.metrics.cpu_nanos.saturating_sub(before.metrics.cpu_nanos))
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn ratio(part: u128, whole: u128) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn send(
    scene: &Scene,
    source: &Source,
    now: &Sample,
    before: Option<&Sample>,
    quotas: Quotas,
    spike: Option<Spike>,
) {
    let sink = scene.log.sink();
    let envelope = |message| Envelope {
        timestamp: now.at,
        source_id: source.id.clone(),
        instance_id: source.instance.clone(),
        tags: source.tags.clone(),
        message,
    };
    sink.emit(envelope(Message::Gauge(first_gauge(now, before, quotas))));
    sink.emit(envelope(Message::Gauge(second_gauge(now, before, quotas))));
    if let Some(Spike { began, ended }) = spike {
        let (name, stop) = ("spike".to_owned(), ended.unwrap_or(Timestamp::ZERO));
        sink.emit(envelope(Message::Timer { name, start: began, stop }));
    }
    let (passed, limit) = scene.log.drain_passed();
    if let Some(before) = before {
        let span = now.at.since(before.at).as_millis();
        sink.emit(envelope(Message::Gauge(rate_gauge(1000.0 * ratio(passed.into(), span), limit))));
    }
    for (name, total, earlier) in [
        ("rx_bytes", now.metrics.rx_bytes, before.map(|before| before.metrics.rx_bytes)),
        ("tx_bytes", now.metrics.tx_bytes, before.map(|before| before.metrics.tx_bytes)),
    ] {
        let delta = total.saturating_sub(earlier.unwrap_or(0));
        sink.emit(envelope(Message::Counter { name: name.to_owned(), delta, total }));
    }
}

/// Exactly these five: older readers take them together as one container metric.
fn first_gauge(
    now: &Sample,
    before: Option<&Sample>,
    quotas: Quotas,
) -> BTreeMap<String, GaugeValue> {
    gauge([
        ("cpu", "percentage", cpu_percent(now, before)),
        ("memory", "bytes", as_f64(now.metrics.memory_bytes)),
        ("disk", "bytes", as_f64(now.metrics.disk_bytes)),
        ("memory_quota", "bytes", as_f64(quotas.memory_bytes)),
        ("disk_quota", "bytes", as_f64(quotas.disk_bytes)),
    ])
}

fn second_gauge(
    now: &Sample,
    before: Option<&Sample>,
    quotas: Quotas,
) -> BTreeMap<String, GaugeValue> {
    let mut values = gauge([
        ("absolute_usage", "nanoseconds", as_f64(now.metrics.cpu_nanos)),
        ("absolute_entitlement", "nanoseconds", entitlement(now, quotas).round()),
        ("container_age", "nanoseconds", (now.age.as_secs_f64() * 1e9).round()),
    ]);
    if before.is_some() && quotas.entitled_cores > 0.0 {
        let value = cpu_percent(now, before) / quotas.entitled_cores;
        values.extend(gauge([("cpu_entitlement", "percentage", value)]));
    }
    values
}

#[expect(clippy::cast_precision_loss, reason = "limits are far below 2^52")]
fn rate_gauge(rate: f64, limit: i64) -> BTreeMap<String, GaugeValue> {
    gauge([("log_rate", "B/s", rate), ("log_rate_limit", "B/s", limit as f64)])
}

fn gauge<const N: usize>(values: [(&str, &str, f64); N]) -> BTreeMap<String, GaugeValue> {
    values
        .into_iter()
        .map(|(name, unit, value)| (name.to_owned(), GaugeValue { unit: unit.to_owned(), value }))
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn as_f64(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(secs: i64, cpu_secs: u64) -> Sample {
        let metrics =
            Metrics { cpu_nanos: cpu_secs * 1_000_000_000, memory_bytes: 5, ..Metrics::default() };
        Sample {
            at: Timestamp::from_secs(secs),
            age: Duration::from_secs(secs.unsigned_abs()),
            metrics,
        }
    }

    #[test]
    fn a_spike_lasts_from_the_first_excess_to_its_end() {
        let at = Timestamp::from_secs;
        let mut spike = None;
        let mut told = vec![];
        for (secs, over) in [(1, false), (2, true), (3, true), (4, false), (5, false), (6, true)] {
            spike = spiking(spike, at(secs), over);
            told.push(
                spike.map(|one: Spike| (one.began.as_secs(), one.ended.map(Timestamp::as_secs))),
            );
        }
        let first = Some((2, None));
        assert_eq!(
            told,
            [None, first, first, Some((2, Some(4))), Some((2, Some(4))), Some((6, None))]
        );
        let quotas = Quotas { memory_bytes: 0, disk_bytes: 0, entitled_cores: 0.5 };
        assert!(over(&sample(10, 6), quotas) && !over(&sample(10, 4), quotas));
    }

    #[test]
    fn rates_need_two_samples() {
        let quotas = Quotas { memory_bytes: 10, disk_bytes: 20, entitled_cores: 0.5 };
        let (first, second) = (sample(10, 1), sample(25, 16));
        let names = |gauge: &BTreeMap<String, GaugeValue>| {
            gauge.keys().cloned().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            names(&first_gauge(&first, None, quotas)),
            "cpu disk disk_quota memory memory_quota"
        );
        assert_eq!(
            names(&second_gauge(&first, None, quotas)),
            "absolute_entitlement absolute_usage container_age"
        );
        assert!((first_gauge(&first, None, quotas)["cpu"].value).abs() < 1e-9);
        assert!((first_gauge(&second, Some(&first), quotas)["cpu"].value - 100.0).abs() < 1e-9);
        assert!(
            (second_gauge(&second, Some(&first), quotas)["cpu_entitlement"].value - 200.0).abs()
                < 1e-9
        );
        assert!(
            (second_gauge(&second, None, quotas)["absolute_entitlement"].value - 12.5e9).abs()
                < 1.0
        );
    }
}
