//! `cupola server`: some of the platform's roles on one machine, as its first one or as one that joins.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::cluster::{JoinToken, enter_server};
use crate::data_dir::DataDir;
use crate::join::own_address;
use crate::machine;
use crate::roles::{Role, Roles};
use crate::settings::{Settings, UpArgs};

#[derive(Args)]
pub struct ServerArgs {
    /// What runs here. The first machine runs at least api and logs; one that joins any of brain, router, cell
    #[arg(
        long,
        env = "CUPOLA_ROLES",
        value_name = "ROLES",
        value_delimiter = ',',
        value_enum,
        required = true
    )]
    roles: Vec<Role>,
    /// What `cupola cell token` prints on one of the platform's servers; needed once, then this machine knows its platform
    #[arg(long, env = "CUPOLA_JOIN_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    join: Option<String>,
    #[command(flatten)]
    up: UpArgs,
}

/// How a machine comes to the platform.
pub enum Join {
    /// It begins one, or is what it was before.
    No,
    With(JoinToken),
}

/// Where joined machines listen for the others, unless another port is chosen.
const PORT: u16 = 1800;
const JOINED: &str = "joined-server.json";

/// What a machine keeps that joined.
#[derive(Serialize, Deserialize)]
struct Joined {
    /// Where the platform began.
    first: String,
    domain: String,
    address: Ipv4Addr,
}

pub fn main(args: ServerArgs) -> anyhow::Result<()> {
    let join = match args.join.as_deref().map(JoinToken::parse).transpose()? {
        Some(token) => Join::With(token),
        None => Join::No,
    };
    machine::main(args.up.resolve()?, &Roles::new(args.roles), &join)
}

/// Returns where the platform began, when that was elsewhere; then `settings` are made to fit.
pub async fn join(
    settings: &mut Settings,
    roles: &Roles,
    join: &Join,
    data: &DataDir,
) -> anyhow::Result<Option<String>> {
    let path = data.file(JOINED);
    let known: Option<Joined> = match std::fs::read(&path) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).with_context(|| {
            format!("{} is damaged: join anew with another --data", path.display())
        })?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let joined = match (known, join) {
        (None, Join::No) => return Ok(None),
        (Some(known), Join::No) => known,
        (Some(known), Join::With(token)) => {
            ensure!(
                data.kept(crate::data_dir::AUTHORITY, String::new)? == token.authority.trim(),
                "this data directory belongs to the platform that began at {}: join another with another --data",
                known.first
            );
            known
        }
        (None, Join::With(token)) => enter(settings, roles, token, data).await?,
    };
    settings.domain = joined.domain;
    settings.cells_listen.get_or_insert(SocketAddrV4::new(joined.address, PORT));
    Ok(Some(joined.first))
}

async fn enter(
    settings: &Settings,
    roles: &Roles,
    token: &JoinToken,
    data: &DataDir,
) -> anyhow::Result<Joined> {
    if data.file(crate::data_dir::ENCRYPTION_KEY).exists() {
        bail!("{} holds a platform of its own: join with another --data", settings.data.display());
    }
    roles.check(crate::roles::Place::Joined)?;
    base::tls::trust(&token.authority)?;
    let address = match settings.cells_listen {
        Some(listen) => *listen.ip(),
        None => own_address(&token.url).await?,
    };
    let share = enter_server(token, &address.to_string(), roles).await?;
    share.keep(data)?;
    let joined = Joined { first: token.url.clone(), domain: share.domain, address };
    // Last, for it says that all is there.
    data.keep(JOINED, &serde_json::to_string_pretty(&joined)?)?;
    Ok(joined)
}
