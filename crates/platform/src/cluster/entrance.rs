//! Where the platform's other machines come in: a listener over TLS, and the token that names it.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::Context as _;
use base::http::Secret;
use base::tls::TlsListener;
use base::{CancellationToken, TaskTracker};
use tokio::net::TcpListener;
use tracing::error;

use super::{Authority, JoinToken};
use crate::data_dir::{self, DataDir};

pub struct Entrance {
    listener: TcpListener,
    local: SocketAddrV4,
    pub authority: Authority,
    pub join_key: Secret,
}

impl Entrance {
    /// `None` when no other machines are wanted. From now on this process trusts the platform's authority.
    pub async fn open(
        wish: Option<SocketAddrV4>,
        data: &DataDir,
    ) -> anyhow::Result<Option<Entrance>> {
        let Some(wish) = wish else {
            data.forget(data_dir::JOIN_TOKEN)?;
            return Ok(None);
        };
        let authority = Authority::of(data)?;
        base::tls::trust(&authority.certificate)?;
        let listener = TcpListener::bind(wish).await.with_context(|| {
            format!("cells_listen: listening on {wish}, which must be an address of this machine")
        })?;
        let local = SocketAddrV4::new(*wish.ip(), listener.local_addr()?.port());
        let join_key = data.join_key()?;
        let token = JoinToken {
            url: format!("https://{local}"),
            authority: authority.certificate.clone(),
            key: join_key.expose().to_owned(),
        };
        data.keep(data_dir::JOIN_TOKEN, &token.to_string())?;
        Ok(Some(Entrance { listener, local, authority, join_key }))
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.local)
    }

    pub fn address(&self) -> Ipv4Addr {
        *self.local.ip()
    }

    /// Lets the others in to `inside`. Hands the authority and the join key to whoever makes it.
    pub fn serve(
        self,
        inside: impl FnOnce(Authority, Secret) -> axum::Router,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> anyhow::Result<()> {
        let own = self.authority.issue(self.address().into())?.server_config()?;
        let listener = TlsListener::new(self.listener, own)?;
        let (router, until) = (inside(self.authority, self.join_key), stop.clone());
        tasks.spawn(async move {
            if let Err(error) = base::http::serve(listener, router, until).await {
                error!(%error, "the API for other machines ended");
            }
        });
        Ok(())
    }
}
