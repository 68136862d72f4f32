//! The role `logs`: keeps what apps say and measure. Machines without it send theirs to where the platform began.

use std::sync::Arc;

use envelope::Sink;
use loggregator::Loggregator;

use crate::cluster::Forward;
use crate::data_dir;
use crate::ground::Ground;

pub fn start(ground: &Ground<'_>) -> anyhow::Result<Loggregator> {
    let config = loggregator::Config::new(ground.data.folder("logs")?);
    Loggregator::open(config, ground.clock.clone())
}

/// Sends envelopes to the log store on another machine, until the end.
pub fn send_to(url: String, ground: &Ground<'_>) -> anyhow::Result<Arc<dyn Sink>> {
    let spool = ground.data.folder(data_dir::LOG_SPOOL)?;
    let forward = Forward::open(&spool, &ground.members.own().name, ground.clock.clone())?;
    let (sending, secret, until) = (forward.clone(), ground.secret.clone(), ground.stop.clone());
    ground.tasks.spawn(async move { sending.run(&url, &secret, until).await });
    Ok(forward)
}
