//! Domains and cells: who is fresh, who is there.

use std::sync::Arc;
use std::time::Duration;

use base::Timestamp;
use diego::bbs::{ErrorKind, Result};
use diego::{BbsError, CellId, CellPresence, Domain};

use super::Decision;
use crate::state::{Fresh, Present, State, Write};

pub(super) fn upsert_domain(
    domain: Domain,
    ttl: Option<Duration>,
    now: Timestamp,
) -> Result<Decision> {
    if domain.as_str().is_empty() {
        return Err(BbsError::new(ErrorKind::InvalidRequest, "Invalid field: domain"));
    }
    let fresh = Fresh { until: ttl.map(|ttl| now + ttl) };
    Ok(Decision { converge: true, ..Decision::write(Write::Domain(domain, Some(fresh))) })
}

/// A cell that is new, was missing, or offers something else than before.
pub(super) fn announce(presence: CellPresence, ttl: Duration, now: Timestamp) -> Decision {
    let id = presence.cell_id.clone();
    let present = Present { presence: Arc::new(presence), came: now, until: now + ttl };
    Decision { converge: true, ..Decision::write(Write::Cell(id, Some(present))) }
}

pub(super) fn retract(state: &State, cell: CellId) -> Decision {
    match state.cell(&cell) {
        Some(_) => Decision { converge: true, ..Decision::write(Write::Cell(cell, None)) },
        None => Decision::default(),
    }
}
