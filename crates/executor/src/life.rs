//! Leads one container through its life: supplies, creation, recipe, end.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Context as _;
use diego::{NetInfo, PortMapping};
use garden::{ContainerInfo, ContainerSpec, GardenError, Limits, Stream};
use tracing::{info, warn};

use crate::container::{ContainerRequest, Event, Outcome};
use crate::executor::Executor;
use crate::full_disk;
use crate::gate::is_untouched;
use crate::member::{Member, Traces};
use crate::meter::{Quotas, measure};
use crate::progress::Entry;
use crate::recipe::{self, Before, Said};
use crate::scene::Scene;
use crate::surroundings::amended;
use crate::volumes;

/// Marks the containers that are an executor's.
pub(crate) const OWNER: &str = "executor.cell";
const MEGABYTE: u64 = 1024 * 1024;
/// Of a full share, as cgroups count.
const FULL_SHARE: u64 = 1024;

impl Executor {
    /// Carries out a recipe, from wherever an earlier life of this program left it, to its end.
    pub(crate) async fn live(
        self: Arc<Self>,
        member: Arc<Member>,
        request: ContainerRequest,
        traces: Traces,
        found: Option<ContainerInfo>,
    ) {
        let outcome = tokio::select! {
            // This program goes, the container stays.
            () = self.detached.cancelled() => return,
            () = member.lost.cancelled() => Outcome::failed("missing garden container"),
            outcome = self.lead(&member, &request, &traces, found) => outcome,
        };
        info!(container.guid = %member.guid, failed = outcome.failed, reason = outcome.reason, "container completed");
        traces.journal.note(Entry::Completed { outcome: outcome.clone() });
        member.ended.cancel();
        member.advance(Event::Complete(outcome), self.clock.now());
    }

    async fn lead(
        &self,
        member: &Member,
        request: &ContainerRequest,
        traces: &Traces,
        found: Option<ContainerInfo>,
    ) -> Outcome {
        let container = match found {
            Some(container) => container,
            None => match self.make(member, request, traces).await {
                Ok(container) => container,
                Err(outcome) => return outcome,
            },
        };
        let progress = traces.journal.progress();
        if is_untouched(&container, &progress) {
            let asking = member.container();
            let verdict = tokio::select! {
                biased;
                () = member.stop.cancelled() => return stopped_early(),
                verdict = self.admitted(&asking) => verdict,
            };
            if let Err(reason) = verdict {
                return Outcome::failed(reason);
            }
        }
        let scene = self.scene(request, traces, &container);
        let before = Before { healthy: progress.healthy, routable: progress.routable };
        let say = |said| self.hear(member, traces, &scene, said);
        let quotas = self.quotas(request);
        let keep = |usage| member.keep_usage(usage);
        let renewal = self.keep_identified(request, traces, &scene.net);
        let result = tokio::select! {
            result = recipe::run(&scene, request, &member.stop, before, &say) => result,
            never = measure(&scene, container.created_at, quotas, &request.metrics_guid, keep) => match never {},
            never = renewal => match never {},
        };
        let reason = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
        Outcome {
            failed: result.is_err(),
            reason,
            stopped: member.stop.is_cancelled(),
            retryable: false,
        }
    }

    async fn make(
        &self,
        member: &Member,
        request: &ContainerRequest,
        traces: &Traces,
    ) -> Result<ContainerInfo, Outcome> {
        member.advance(Event::Initialize, self.clock.now());
        let spec = tokio::select! {
            biased;
            () = member.stop.cancelled() => return Err(stopped_early()),
            spec = self.spec(request, traces) => spec?,
        };
        let say = |stream, what: &str| {
            traces.log.say(
                stream,
                format!("Cell {} {what} for instance {}", self.config.cell_id, member.guid),
            );
        };
        say(Stream::Stdout, "creating container");
        let created = {
            let _slot = self
                .creates
                .acquire()
                .await
                .map_err(|closed| Outcome::never_ran(closed.to_string()))?;
            match self.garden.create(spec.clone()).await {
                // What is only kept for somebody to look at must not keep others from running.
                Err(GardenError::Exhausted(_)) if self.give_way().await => {
                    self.garden.create(spec).await
                }
                created => created,
            }
        };
        let created = match created {
            Ok(container) => self.furnish(request, traces, container).await,
            Err(error) => Err(anyhow::Error::new(error)),
        };
        let container = created.map_err(|error| {
            let error = format!("{error:#}");
            warn!(container.guid = %member.guid, %error, "container could not be created");
            let text = format!(
                "Cell {} failed to create container for instance {}: {error}",
                self.config.cell_id, member.guid
            );
            traces.log.say(Stream::Stderr, text);
            Outcome::never_ran(format!("failed to create container: {error}"))
        })?;
        traces.journal.note(Entry::Created);
        say(Stream::Stdout, "successfully created container");
        member.advance(Event::Create, self.clock.now());
        if member.stop.is_cancelled() { Err(stopped_early()) } else { Ok(container) }
    }

    async fn spec(
        &self,
        request: &ContainerRequest,
        traces: &Traces,
    ) -> Result<ContainerSpec, Outcome> {
        let rootfs = self.supplies.rootfs(&request.rootfs).await.map_err(|error| {
            warn!(container.guid = %request.guid, error = %format!("{error:#}"), "no root file system");
            Outcome::never_ran(format!("failed to create container: {error:#}"))
        })?;
        let layers = self.supplies.layers(request).await.map_err(|error| {
            warn!(container.guid = %request.guid, error = %format!("{error:#}"), "layers could not be had");
            Outcome::never_ran(full_disk::told("failed to download cached artifacts", &error))
        })?;
        // Written down while the layers are held, so that nobody makes room with them.
        let paths = layers.paths.clone();
        traces.journal.note(Entry::Layers { paths: paths.clone() });
        let mounts = volumes::mounts(&self.config.volume_drivers, &request.volume_mounts).map_err(
            |error| {
                warn!(container.guid = %request.guid, error = %format!("{error:#}"), "no volume");
                Outcome::never_ran("failed to mount volume")
            },
        )?;
        let identity = self.identity_place(&request.guid).map_err(|error| {
            warn!(container.guid = %request.guid, error = %format!("{error:#}"), "no place for a certificate");
            Outcome::never_ran("failed to create container: no place for its certificate")
        })?;
        let spec = spec(request, rootfs, paths, &self.config.cell_id);
        Ok(ContainerSpec {
            mounts: mounts.into_iter().chain(identity.mounts).collect(),
            env: spec.env.into_iter().chain(identity.env).collect(),
            ..spec
        })
    }

    /// What has to be there before anything runs.
    async fn furnish(
        &self,
        request: &ContainerRequest,
        traces: &Traces,
        container: ContainerInfo,
    ) -> anyhow::Result<ContainerInfo> {
        self.place_files(request).await?;
        self.give_identity(request, traces, &self.net(&container)).await?;
        Ok(container)
    }

    /// Before the container counts as made: after a crash of this program in between it is made anew.
    async fn place_files(&self, request: &ContainerRequest) -> anyhow::Result<()> {
        match volumes::archive(&request.volume_mounted_files)? {
            Some(tar) => {
                let placed = self.garden.stream_in(&request.guid, volumes::FILES, "root", tar);
                placed.await.context("placing files")
            }
            None => Ok(()),
        }
    }

    fn scene(
        &self,
        request: &ContainerRequest,
        traces: &Traces,
        container: &ContainerInfo,
    ) -> Scene {
        let net = self.net(container);
        Scene {
            garden: self.garden.clone(),
            handle: request.guid.clone(),
            disk_bytes: Some(request.resources.disk_mb)
                .filter(|limit| *limit > 0)
                .map(|limit| limit.saturating_mul(MEGABYTE)),
            env: amended(&request.env, &net.ports),
            net,
            log: traces.log.clone(),
            journal: traces.journal.clone(),
            transfers: self.transfers.clone(),
            prober: self.prober.clone(),
            timings: self.config.timings.clone(),
            clock: self.clock.clone(),
            known: container.processes.iter().cloned().collect::<HashSet<_>>(),
            started: base::CancellationToken::new(),
        }
    }

    pub(crate) fn net(&self, container: &ContainerInfo) -> NetInfo {
        net(container, self.config.advertised_ip)
    }

    fn hear(&self, member: &Member, traces: &Traces, scene: &Scene, said: Said) {
        let now = self.clock.now();
        match said {
            Said::Running { routable } => {
                traces.journal.note(Entry::Routable(routable));
                traces.journal.note(Entry::Healthy);
                member.advance(Event::Run(scene.net.clone(), routable), now);
            }
            Said::Routable(routable) => {
                traces.journal.note(Entry::Routable(routable));
                member.advance(Event::Routable(routable), now);
            }
        }
    }

    /// Who buys a share of the memory is entitled to the same share of the cores.
    fn quotas(&self, request: &ContainerRequest) -> Quotas {
        let (memory_mb, disk_mb) = (request.resources.memory_mb, request.resources.disk_mb);
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let share = match self.total().memory_mb {
            0 => 1.0,
            _ if memory_mb == 0 => 1.0,
            total => (memory_mb as f64 / total as f64).min(1.0),
        };
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let entitled_cores = share * cores as f64;
        Quotas {
            memory_bytes: memory_mb * MEGABYTE,
            disk_bytes: disk_mb * MEGABYTE,
            entitled_cores,
        }
    }
}

fn stopped_early() -> Outcome {
    Outcome {
        failed: true,
        reason: "stopped-before-running".to_owned(),
        stopped: true,
        retryable: false,
    }
}

fn spec(
    request: &ContainerRequest,
    rootfs: garden::Rootfs,
    layers: Vec<std::path::PathBuf>,
    cell_id: &str,
) -> ContainerSpec {
    let mut ports = request.ports.clone();
    let mut seen = HashSet::new();
    ports.retain(|port| seen.insert(*port));
    ContainerSpec {
        handle: Some(request.guid.clone()),
        rootfs,
        layers,
        mounts: vec![],
        env: request.env.iter().map(|var| (var.name.clone(), var.value.clone())).collect(),
        limits: Limits {
            memory_bytes: request.resources.memory_mb * MEGABYTE,
            disk_bytes: request.resources.disk_mb * MEGABYTE,
            cpu_shares: (FULL_SHARE * u64::from(request.cpu_weight.clamp(1, 100)) / 100).max(2),
            pids: request.max_pids,
        },
        ports,
        egress: request.egress.clone(),
        properties: [(OWNER.to_owned(), cell_id.to_owned())].into(),
        privileged: request.privileged,
        grace_time: None,
    }
}

fn net(container: &ContainerInfo, advertised: Option<std::net::Ipv4Addr>) -> NetInfo {
    let ports = container.ports.iter().map(|port| PortMapping {
        container_port: port.asked_port,
        listen_port: port.container_port,
        host_port: port.host_port,
    });
    NetInfo {
        address: advertised.unwrap_or(container.host_ip),
        instance_address: container.container_ip,
        ports: ports.collect(),
    }
}
