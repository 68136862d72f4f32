//! The way from a cell to the brain, which can be cut, and which by a seed loses, delays and doubles what goes over it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bbs::BbsServer;
use diego::bbs::{ActualLrpFilter, ErrorKind, Evacuation, Keep, Result, TaskFilter};
use diego::desired_lrp::DesiredLrpUpdate;
use diego::task::Attempt;
use diego::{
    ActualLrp, Bbs, BbsError, CellId, CellPresence, DesiredLrp, Domain, Event, InstanceKey, LrpKey,
    NetInfo, ProcessGuid, SchedulingInfo, Task, TaskDefinition, TaskGuid,
};
use futures::stream::BoxStream;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;

pub struct Link {
    bbs: BbsServer,
    cut: AtomicBool,
    faults: Mutex<Option<Faults>>,
    /// Answers to the question for instances wait while this holds.
    pub slow_records: watch::Sender<bool>,
    /// The image layers that the brain has heard of.
    pub layers: watch::Sender<Vec<String>>,
    /// When announcements were made.
    pub announced: Mutex<Vec<Instant>>,
    /// Announcements are lost, and nothing else.
    pub mute: AtomicBool,
    /// The time for which the brain is told to believe in the cell, in place of the cell's own.
    pub patience: Mutex<Option<Duration>>,
}

/// Chances in a hundred.
struct Faults {
    rng: StdRng,
    lost: u32,
    unanswered: u32,
    doubled: u32,
    latest: Duration,
}

enum Fate {
    Fine,
    /// Done twice.
    Doubled,
    /// Done, but nobody hears of it.
    Unanswered,
}

impl Link {
    pub fn new(bbs: BbsServer) -> Arc<Link> {
        Arc::new(Link {
            bbs,
            cut: AtomicBool::new(false),
            faults: Mutex::new(None),
            slow_records: watch::Sender::new(false),
            layers: watch::Sender::default(),
            announced: Mutex::default(),
            mute: AtomicBool::new(false),
            patience: Mutex::new(None),
        })
    }

    pub fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::SeqCst);
    }

    pub fn disturb(&self, seed: u64) {
        let rng = StdRng::seed_from_u64(seed);
        let latest = Duration::from_millis(30);
        *self.faults.lock() = Some(Faults { rng, lost: 10, unanswered: 10, doubled: 10, latest });
    }

    pub fn calm(&self) {
        *self.faults.lock() = None;
    }

    /// What becomes of one call; an error when it is lost on the way.
    async fn fate(&self) -> Result<Fate> {
        let (die, late) = match &mut *self.faults.lock() {
            None => (100, Duration::ZERO),
            Some(faults) => {
                let late = faults.latest.mul_f64(faults.rng.random_range(0.0..1.0));
                let die = faults.rng.random_range(0..100);
                let kinds = [faults.lost, faults.unanswered, faults.doubled];
                let mut left = die;
                let kind = kinds.iter().position(|chance| {
                    let hit = left < *chance;
                    left = left.saturating_sub(*chance);
                    hit
                });
                (kind.map_or(100, |kind| kind as u32), late)
            }
        };
        if !late.is_zero() {
            tokio::time::sleep(late).await;
        }
        if self.cut.load(Ordering::SeqCst) {
            return Err(lost());
        }
        match die {
            0 => Err(lost()),
            1 => Ok(Fate::Unanswered),
            2 => Ok(Fate::Doubled),
            _ => Ok(Fate::Fine),
        }
    }

    fn answer<T>(&self, answer: Result<T>) -> Result<T> {
        if self.cut.load(Ordering::SeqCst) { Err(lost()) } else { answer }
    }

    async fn before(&self, call: &str) {
        if call == "actual_lrps" {
            // The sender is here.
            let _ = self.slow_records.subscribe().wait_for(|slow| !slow).await;
        }
    }

    async fn announced(&self, presence: &CellPresence, ttl: Duration) -> Result<()> {
        self.announced.lock().push(Instant::now());
        self.fate().await?;
        if self.mute.load(Ordering::SeqCst) {
            return Err(lost());
        }
        let ttl = self.patience.lock().unwrap_or(ttl);
        self.answer(self.bbs.announce(presence, ttl).await)
    }
}

fn lost() -> BbsError {
    BbsError::new(ErrorKind::Unreachable, "the way is cut")
}

macro_rules! over_the_way {
    ($($name:ident($($arg:ident: [$($kind:tt)*]),*) -> [$($answer:tt)*];)*) => {
        #[async_trait]
        impl Bbs for Link {
            $(
                async fn $name(&self, $($arg: $($kind)*),*) -> Result<$($answer)*> {
                    let answer = match self.fate().await? {
                        Fate::Fine => self.bbs.$name($($arg),*).await,
                        Fate::Doubled => {
                            let _ = self.bbs.$name($(Clone::clone(&$arg)),*).await;
                            self.bbs.$name($($arg),*).await
                        }
                        Fate::Unanswered => {
                            let _ = self.bbs.$name($($arg),*).await;
                            Err(lost())
                        }
                    };
                    self.before(stringify!($name)).await;
                    self.answer(answer)
                }
            )*

            async fn announce(&self, presence: &CellPresence, ttl: Duration) -> Result<()> {
                self.announced(presence, ttl).await
            }

            async fn hold_layers(&self, cell: &CellId, layers: &[String]) -> Result<()> {
                self.fate().await?;
                let answer = self.answer(self.bbs.hold_layers(cell, layers).await);
                if answer.is_ok() {
                    self.layers.send_replace(layers.to_vec());
                }
                answer
            }
        }
    };
}

over_the_way! {
    upsert_domain(domain: [&Domain], ttl: [Option<Duration>]) -> [()];
    domains() -> [Vec<Domain>];
    desire_lrp(lrp: [DesiredLrp]) -> [()];
    update_lrp(guid: [&ProcessGuid], update: [DesiredLrpUpdate]) -> [()];
    remove_lrp(guid: [&ProcessGuid]) -> [()];
    desired_lrp(guid: [&ProcessGuid]) -> [DesiredLrp];
    desired_lrps(domain: [Option<&Domain>]) -> [Vec<DesiredLrp>];
    scheduling_infos(domain: [Option<&Domain>]) -> [Vec<SchedulingInfo>];
    actual_lrps(filter: [&ActualLrpFilter]) -> [Vec<ActualLrp>];
    retire(key: [&LrpKey]) -> [()];
    claim(key: [&LrpKey], instance: [&InstanceKey]) -> [()];
    start(key: [&LrpKey], instance: [&InstanceKey], net: [&NetInfo], routable: [bool]) -> [()];
    crash(key: [&LrpKey], instance: [&InstanceKey], reason: [&str]) -> [()];
    remove(key: [&LrpKey], instance: [&InstanceKey]) -> [()];
    evacuate(key: [&LrpKey], instance: [&InstanceKey], evacuation: [Evacuation]) -> [Keep];
    desire_task(guid: [&TaskGuid], domain: [&Domain], definition: [TaskDefinition]) -> [()];
    task(guid: [&TaskGuid]) -> [Task];
    tasks(filter: [&TaskFilter]) -> [Vec<Task>];
    start_task(guid: [&TaskGuid], by: [&Attempt]) -> [bool];
    complete_task(guid: [&TaskGuid], by: [&Attempt], failure: [Option<&str>], result: [&str]) -> [()];
    reject_task(guid: [&TaskGuid], by: [&Attempt], reason: [&str]) -> [()];
    cancel_task(guid: [&TaskGuid]) -> [()];
    resolve_task(guid: [&TaskGuid]) -> [()];
    delete_task(guid: [&TaskGuid]) -> [()];
    retract(cell: [&CellId]) -> [()];
    cells() -> [Vec<CellPresence>];
    events() -> [BoxStream<'static, Event>];
}
