//! Which port a TCP route gets.

use diego::routing::ReservablePorts;
use sql::Connection;

use super::routes::{Address, taken};
use crate::db::domains::Domain;
use crate::db::router_groups;
use crate::errors::{ApiError, ApiResult};

/// The port of a new route: the one that was asked for, one by chance where none was, 0 for HTTP. Until the transaction
/// ends nobody else gets it.
///
/// # Errors
/// 422 in Cloud Foundry's words: the group is gone or exhausted, the port is not the group's, or is taken.
pub async fn choose(tx: &mut Connection, domain: &Domain, address: &Address) -> ApiResult<i64> {
    if !domain.is_tcp() {
        return Ok(0);
    }
    router_groups::lock_ports(tx).await?;
    let ports = ports_of(tx, domain).await?;
    let Some(port) = address.port else {
        let free = router_groups::free_port(tx, &ports).await?;
        return free.ok_or_else(|| {
            ApiError::unprocessable("There are no more ports available for this domain.")
        });
    };
    let unavailable = || {
        ApiError::unprocessable(format!(
            "Port '{port}' is not available. Try a different port or use a different domain."
        ))
    };
    if !u16::try_from(port).is_ok_and(|port| ports.contains(port)) {
        return Err(unavailable());
    }
    match router_groups::holder(tx, port).await? {
        None => Ok(port),
        Some(holder) if holder == domain.guid => Err(taken(address, domain)),
        Some(_) => Err(unavailable()),
    }
}

async fn ports_of(tx: &mut Connection, domain: &Domain) -> ApiResult<ReservablePorts> {
    let group = match &domain.router_group_guid {
        Some(guid) => router_groups::find(tx, guid).await?,
        None => None,
    };
    group.and_then(|group| group.ports()).ok_or_else(|| {
        ApiError::unprocessable(
            "Route could not be created because the specified domain does not have a valid router group.",
        )
    })
}
