//! The role `logs`: keeps what apps say and measure. Machines without it send theirs to where the platform began.

use std::sync::Arc;

use envelope::Sink;
use futures::FutureExt as _;
use loggregator::Loggregator;

use crate::cluster::{ENVELOPES, Forward, Relay, receiver};
use crate::data_dir;
use crate::ground::Ground;

pub fn start(ground: &Ground<'_>) -> anyhow::Result<Loggregator> {
    let config = loggregator::Config::new(ground.data.folder("logs")?);
    Loggregator::open(config, ground.clock.clone())
}

/// Sends envelopes to the log store on another machine, until the end.
pub fn send_to(url: String, ground: &Ground<'_>) -> anyhow::Result<Arc<dyn Sink>> {
    let (spool, name) = (ground.data.folder(data_dir::LOG_SPOOL)?, &ground.members.own().name);
    let forward = Forward::open(&spool, name, ground.clock.clone())?;
    let (sending, secret, until) = (forward.clone(), ground.secret.clone(), ground.stop.clone());
    ground.tasks.spawn(async move { sending.run(&url, &secret, until).await });
    Ok(forward)
}

/// Where other machines put their envelopes, whether the log store is here or elsewhere.
pub fn entry(store: Option<&Loggregator>, ground: &Ground<'_>) -> axum::Router {
    if let Some(store) = store {
        return receiver(Arc::new(store.clone()), &ground.secret);
    }
    let first = ground.first.clone();
    let relay = Relay::new("", "the log store is out of reach", move || {
        let first = first.clone();
        async move { first }.boxed()
    });
    // Whoever sends shows the secret there.
    axum::Router::new().route(ENVELOPES, relay.route())
}
