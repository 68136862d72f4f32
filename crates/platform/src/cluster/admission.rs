//! A cell comes in: it shows the join key over TLS and is given the platform's secret and a certificate of its own.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use base::http::Secret;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::{Authority, CellAuthority, InstanceAuthority, JoinToken};

const PATH: &str = "/cluster/cells";
const PATIENCE: Duration = Duration::from_secs(20);

/// What the door to the platform needs.
pub struct Admission {
    pub authority: Authority,
    pub instances: InstanceAuthority,
    /// Shown by whoever wants in.
    pub key: Secret,
    pub secret: Secret,
    pub home: Home,
}

/// How apps on a cell find the platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Home {
    /// The domain of apps; names below it lead to `address`.
    pub domain: String,
    pub address: Ipv4Addr,
    /// Of the front door.
    pub ports: Vec<u16>,
}

#[derive(Serialize, Deserialize)]
struct Enter {
    cell_id: String,
    /// Where the platform and its routers will reach the cell.
    address: IpAddr,
}

/// Kept by a cell, so that it joins once.
#[derive(Clone, Serialize, Deserialize)]
pub struct Joined {
    pub url: String,
    pub authority: String,
    pub secret: String,
    pub certificate: String,
    pub key: String,
    pub address: Ipv4Addr,
    pub home: Home,
    /// What it signs certificates of its containers with; a cell that joined when there was none has none until it joins
    /// anew.
    #[serde(default)]
    pub instances: Option<CellAuthority>,
}

impl Admission {
    /// To be served over TLS.
    pub fn router(self) -> Router {
        let key = self.key.clone();
        let router = Router::new().route(PATH, post(admit)).with_state(Arc::new(self));
        base::http::guarded(router, &key)
    }
}

#[derive(Serialize, Deserialize)]
struct Welcome {
    secret: String,
    certificate: String,
    key: String,
    home: Home,
    #[serde(default)]
    instances: Option<CellAuthority>,
}

async fn admit(
    State(admission): State<Arc<Admission>>,
    Json(enter): Json<Enter>,
) -> Result<Json<Welcome>, StatusCode> {
    let failed = |error: anyhow::Error| {
        warn!(error = %format!("{error:#}"), "making a certificate for a cell");
        StatusCode::INTERNAL_SERVER_ERROR
    };
    let identity = admission.authority.issue(enter.address).map_err(failed)?;
    let instances = Some(admission.instances.cell(&enter.cell_id).map_err(failed)?);
    info!(cell.id = enter.cell_id, address = %enter.address, "a cell joined");
    Ok(Json(Welcome {
        secret: admission.secret.expose().to_owned(),
        certificate: identity.certificate,
        key: identity.key,
        home: admission.home.clone(),
        instances,
    }))
}

/// Joins the platform of `token`; its authority must be trusted already ([`base::tls::trust`]).
pub async fn enter(token: &JoinToken, cell_id: &str, address: Ipv4Addr) -> anyhow::Result<Joined> {
    let request = base::http::client(Some(&Secret::new(token.key.as_str())))
        .post(format!("{}{PATH}", token.url))
        .json(&Enter { cell_id: cell_id.to_owned(), address: address.into() })
        .timeout(PATIENCE);
    let answer = request
        .send()
        .await
        .with_context(|| format!("asking {} to let this cell in", token.url))?;
    match answer.status() {
        status if status.is_success() => {}
        StatusCode::UNAUTHORIZED => {
            bail!(
                "{} does not know this token: print a new one with `cupola cell token`",
                token.url
            )
        }
        status => bail!("{} answered {status}", token.url),
    }
    let welcome: Welcome = answer.json().await.context("reading the platform's answer")?;
    Ok(Joined {
        url: token.url.clone(),
        authority: token.authority.clone(),
        secret: welcome.secret,
        certificate: welcome.certificate,
        key: welcome.key,
        address,
        home: welcome.home,
        instances: welcome.instances,
    })
}
