//! Machines come in: each shows the join key over TLS. A cell is given the platform's secret and a certificate of its own, a
//! server all that the platform's servers share.

use std::collections::BTreeMap;
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

use super::{Authority, CellAuthority, InstanceAuthority, JoinToken, Members};
use crate::data_dir::{self, DataDir};
use crate::roles::{Role, Roles};

const PATH: &str = "/cluster/cells";
const SERVERS: &str = "/cluster/servers";
const PATIENCE: Duration = Duration::from_secs(20);

/// What the door to the platform needs.
pub struct Admission {
    pub authority: Authority,
    pub instances: InstanceAuthority,
    /// Shown by whoever wants in.
    pub key: Secret,
    pub secret: Secret,
    pub domain: String,
    pub members: Members,
    /// For servers; `None` where there can be no others.
    pub share: Option<Share>,
}

/// What the platform's servers have in common.
#[derive(Clone, Serialize, Deserialize)]
pub struct Share {
    pub domain: String,
    /// With its password.
    pub database: String,
    /// What the first server made for itself, by the names of its files.
    pub files: BTreeMap<String, String>,
}

/// The files that are the same on every server.
const SHARED: [&str; 9] = [
    data_dir::SECRET,
    data_dir::OPERATOR_SECRET,
    data_dir::ENCRYPTION_KEY,
    data_dir::RECEPTOR_PASSWORD,
    data_dir::JOIN_KEY,
    data_dir::AUTHORITY,
    data_dir::AUTHORITY_KEY,
    data_dir::INSTANCE_AUTHORITY,
    data_dir::INSTANCE_AUTHORITY_KEY,
];

impl Share {
    pub fn of(domain: &str, database: &sql::Postgres, data: &DataDir) -> anyhow::Result<Share> {
        // Each is made when it is first asked for.
        data.secret()?;
        data.operator_secret()?;
        data.encryption_key()?;
        data.receptor_password()?;
        data.join_key()?;
        Authority::of(data)?;
        InstanceAuthority::of(data)?;
        let read = |name: &str| {
            let path = data.file(name);
            let text = std::fs::read_to_string(&path);
            let text = text.with_context(|| format!("reading {}", path.display()))?;
            anyhow::Ok((name.to_owned(), text.trim_end().to_owned()))
        };
        Ok(Share {
            domain: domain.to_owned(),
            database: database.expose().to_owned(),
            files: SHARED.into_iter().map(read).collect::<anyhow::Result<_>>()?,
        })
    }

    /// Puts everything where the platform's own start looks for it.
    pub fn keep(&self, data: &DataDir) -> anyhow::Result<()> {
        for name in SHARED {
            let text = self.files.get(name);
            let text = text.with_context(|| format!("the platform's answer lacks {name}"))?;
            data.keep(name, text)?;
        }
        data.keep(data_dir::DATABASE, &self.database)
    }
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
    /// The platform's servers as they were last heard of; `url` is among the first.
    #[serde(default)]
    pub servers: Vec<String>,
    /// Those with a brain.
    #[serde(default)]
    pub brains: Vec<String>,
    /// What it signs certificates of its containers with; a cell that joined when there was none has none until it joins
    /// anew.
    #[serde(default)]
    pub instances: Option<CellAuthority>,
}

impl Home {
    /// Behind this machine's own router, or else the first one there is.
    pub fn of(domain: &str, members: &Members) -> Option<Home> {
        let own = &members.own().name;
        let router = members.with(Role::Router).into_iter().min_by_key(|one| one.name != *own)?;
        Some(Home { domain: domain.to_owned(), address: router.address, ports: router.ports })
    }
}

impl Admission {
    /// To be served over TLS.
    pub fn router(self) -> Router {
        let key = self.key.clone();
        let router = Router::new().route(PATH, post(admit)).route(SERVERS, post(admit_server));
        let router = router.with_state(Arc::new(self));
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
) -> Result<Json<Welcome>, (StatusCode, &'static str)> {
    const NO_ROUTER: &str = "no router runs yet, and a cell's apps find the platform behind one: start it first \
                             (cupola server --join TOKEN --roles router)";
    let home = Home::of(&admission.domain, &admission.members);
    let home = home.ok_or((StatusCode::CONFLICT, NO_ROUTER))?;
    let failed = |error: anyhow::Error| {
        warn!(error = %format!("{error:#}"), "making a certificate for a cell");
        (StatusCode::INTERNAL_SERVER_ERROR, "no certificate could be made")
    };
    let identity = admission.authority.issue(enter.address).map_err(failed)?;
    let instances = Some(admission.instances.cell(&enter.cell_id).map_err(failed)?);
    info!(cell.id = enter.cell_id, address = %enter.address, "a cell joined");
    Ok(Json(Welcome {
        secret: admission.secret.expose().to_owned(),
        certificate: identity.certificate,
        key: identity.key,
        home,
        instances,
    }))
}

/// A server that wants in.
#[derive(Serialize, Deserialize)]
struct EnterServer {
    name: String,
    roles: Roles,
    /// Of the program.
    version: String,
}

async fn admit_server(
    State(admission): State<Arc<Admission>>,
    Json(enter): Json<EnterServer>,
) -> Result<Json<Share>, (StatusCode, &'static str)> {
    const ALONE: &str = "this platform keeps its tables in files, and only cells can join it: other roles need a shared database";
    let share = admission.share.clone().ok_or((StatusCode::CONFLICT, ALONE))?;
    info!(server = enter.name, roles = %enter.roles, version = enter.version, "a server joined");
    Ok(Json(share))
}

/// Asks the platform of `token` for what its servers share; its authority must be trusted already.
pub async fn enter_server(token: &JoinToken, name: &str, roles: &Roles) -> anyhow::Result<Share> {
    let (name, version) = (name.to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    let answer =
        knock(token, SERVERS, &EnterServer { name, roles: roles.clone(), version }).await?;
    answer.json().await.context("reading the platform's answer")
}

async fn knock(
    token: &JoinToken,
    path: &str,
    enter: &impl Serialize,
) -> anyhow::Result<reqwest::Response> {
    let request = base::http::client(Some(&Secret::new(token.key.as_str())))
        .post(format!("{}{path}", token.url))
        .json(enter)
        .timeout(PATIENCE);
    let answer = request
        .send()
        .await
        .with_context(|| format!("asking {} to let this machine in", token.url))?;
    match answer.status() {
        status if status.is_success() => Ok(answer),
        StatusCode::UNAUTHORIZED => {
            bail!(
                "{} does not know this token: print a new one with `cupola cell token`",
                token.url
            )
        }
        StatusCode::CONFLICT => {
            bail!("{} refuses: {}", token.url, answer.text().await.unwrap_or_default())
        }
        StatusCode::NOT_FOUND => {
            bail!("{} runs an older cupola, which does not know how to let servers in", token.url)
        }
        status => bail!("{} answered {status}", token.url),
    }
}

/// Joins the platform of `token`; its authority must be trusted already ([`base::tls::trust`]).
pub async fn enter(token: &JoinToken, cell_id: &str, address: Ipv4Addr) -> anyhow::Result<Joined> {
    let enter = Enter { cell_id: cell_id.to_owned(), address: address.into() };
    let answer = knock(token, PATH, &enter).await?;
    let welcome: Welcome = answer.json().await.context("reading the platform's answer")?;
    Ok(Joined {
        url: token.url.clone(),
        authority: token.authority.clone(),
        secret: welcome.secret,
        certificate: welcome.certificate,
        key: welcome.key,
        address,
        home: welcome.home,
        servers: vec![token.url.clone()],
        brains: Vec::new(),
        instances: welcome.instances,
    })
}
