//! The role `router`: the front door. The platform's own names lead to the API, here or elsewhere; the way to apps is what
//! the brain that leads tells.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router as Front;
use base::CancellationToken;
use envelope::Sink;
use router::Router;
use router::tls::{Identity as Certificate, ServerConfig};
use tracing::warn;

use crate::cluster::Gate;
use crate::data_dir::DataDir;
use crate::door::Door;
use crate::ground::Ground;
use crate::roles::Role;
use crate::settings::Settings;

/// The platform's own names below its domain.
const NAMES: [&str; 7] = ["api", "uaa", "login", "log-cache", "doppler", "log-stream", "ssh"];
/// How long clients are kept out while no brain has told the routes; then the API at least is let in.
const PRIME: Duration = Duration::from_secs(10);

pub struct RouterRole {
    pub router: Router,
    pub gate: Gate,
}

/// The names below a domain at which the platform itself answers.
pub fn platform_names(domain: &str) -> BTreeSet<String> {
    NAMES.iter().map(|name| format!("{name}.{domain}")).collect()
}

/// `front` answers for the platform's own names.
pub fn start(ground: &Ground<'_>, front: Front, sink: Arc<dyn Sink>) -> RouterRole {
    let platform_names = platform_names(&ground.settings.domain);
    let tcp = crate::tcp::router_config(&ground.settings.tcp);
    let config = router::Config { platform_names, tcp, ..Default::default() };
    let router = Router::new(config, front, sink, ground.clock.clone());
    let gate = Gate::new(Arc::new(router.clone()));
    RouterRole { router, gate }
}

impl RouterRole {
    /// Lets clients in as soon as the routes are known. The token shuts the door again.
    pub async fn open(
        &self,
        ground: &Ground<'_>,
        door: Door,
        tls: Arc<ServerConfig>,
    ) -> CancellationToken {
        let told = !ground.members.with(Role::Brain).is_empty() && self.gate.primed(PRIME).await;
        if !told {
            warn!("no brain has told the routes yet; until one does, requests reach the API alone");
        }
        let serving = ground.stop.child_token();
        let (http, https) = (self.router.clone(), self.router.clone());
        let (until, also) = (serving.clone(), serving.clone());
        ground.tasks.spawn(async move { http.serve_http(door.http, until).await });
        ground.tasks.spawn(async move { https.serve_https(door.https, tls, also).await });
        let (tcp, until) = (self.router.clone(), serving.clone());
        ground.tasks.spawn(async move { tcp.serve_tcp(until).await });
        serving
    }
}

/// The operator's, or the one that the platform made for itself at first start.
pub fn certificate(data: &DataDir, settings: &Settings) -> anyhow::Result<Certificate> {
    if let Some((certificate, key)) = &settings.tls {
        let read = |path: &std::path::Path| {
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
        };
        return Ok(Certificate { certificate: read(certificate)?, key: read(key)? });
    }
    let paths = (data.file("tls.crt"), data.file("tls.key"));
    if !paths.0.exists() || !paths.1.exists() {
        // One without the other is of no use.
        for path in [&paths.0, &paths.1] {
            let _ = std::fs::remove_file(path);
        }
        let names = vec![
            settings.domain.clone(),
            format!("*.{}", settings.domain),
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
        ];
        let made = Certificate::self_made(names)?;
        data.kept("tls.key", || made.key.clone())?;
        data.kept("tls.crt", || made.certificate.clone())?;
    }
    Ok(Certificate {
        certificate: std::fs::read_to_string(paths.0)?,
        key: std::fs::read_to_string(paths.1)?,
    })
}
