//! What of the platform a process runs. Each role has a file: a function from its settings and what it needs to a part
//! that runs.

pub mod api;
pub mod brain;
pub mod cell;
pub mod logs;
pub mod router;

use std::collections::BTreeSet;

use anyhow::{bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Cloud Controller, its bridge, UAA, blobs
    Api,
    /// BBS with auctioneer, converger and route emitter; of several one leads and the others stand by
    Brain,
    /// The front door
    Router,
    /// What apps log and measure
    Logs,
    /// Runs apps
    Cell,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Api => "api",
            Role::Brain => "brain",
            Role::Router => "router",
            Role::Logs => "logs",
            Role::Cell => "cell",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Roles(BTreeSet<Role>);

/// How a machine came to the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The platform began here, and its tables are in files.
    Only,
    /// The platform began here; others may join. Whether they can reach it.
    First {
        reachable: bool,
    },
    Joined,
}

impl Roles {
    pub fn new(roles: impl IntoIterator<Item = Role>) -> Roles {
        Roles(roles.into_iter().collect())
    }

    pub fn all() -> Roles {
        Roles::new(Role::value_variants().iter().copied())
    }

    pub fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    /// # Errors
    /// Say which roles must be together, or what they need.
    pub fn check(&self, place: Place) -> anyhow::Result<()> {
        ensure!(!self.0.is_empty(), "--roles: name at least one of api, brain, router, logs, cell");
        let (api, logs) = (self.has(Role::Api), self.has(Role::Logs));
        match place {
            Place::Only => ensure!(
                *self == Roles::all(),
                "--roles {self}: roles can be apart only when all machines share a database: pass \
                 --database postgres://…, or run all five here"
            ),
            Place::First { reachable } => {
                ensure!(
                    api && logs,
                    "--roles {self}: the first machine runs at least api and logs, which stay together; \
                     to join a platform that is there, pass --join TOKEN"
                );
                ensure!(
                    reachable || *self == Roles::all(),
                    "--roles {self}: the other roles run elsewhere and must reach this machine: pass \
                     --cells-listen ADDRESS:PORT"
                );
                ensure!(
                    !self.has(Role::Cell) || self.has(Role::Router),
                    "--roles {self}: a cell on the first machine needs the router beside it; run the router here \
                     too, or the cell elsewhere"
                );
            }
            Place::Joined if api || logs => bail!(
                "--roles {self}: api and logs stay together on the first machine; a machine that joins takes brain, \
                 router and cell, in any combination"
            ),
            Place::Joined => {}
        }
        Ok(())
    }
}

impl std::fmt::Display for Roles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.0.iter().map(|role| role.name()).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_half_a_platform_is_refused_with_what_is_missing() {
        use Role::{Api, Brain, Cell, Logs, Router};
        let first = Place::First { reachable: true };
        for (place, roles, missing) in [
            (Place::Only, &[Api, Brain, Router, Logs, Cell][..], None),
            (Place::Only, &[Api, Brain], Some("--database")),
            (first, &[Api, Logs], None),
            (first, &[Api, Brain, Router, Logs, Cell], None),
            (first, &[Api, Brain], Some("api and logs")),
            (first, &[Brain], Some("--join")),
            (first, &[Api, Logs, Cell], Some("needs the router")),
            (Place::First { reachable: false }, &[Api, Logs], Some("--cells-listen")),
            (Place::Joined, &[Brain], None),
            (Place::Joined, &[Router, Cell], None),
            (Place::Joined, &[Api, Brain], Some("stay together")),
            (Place::Joined, &[], Some("at least one")),
        ] {
            let refused = Roles::new(roles.iter().copied()).check(place).err();
            match missing {
                None => assert!(refused.is_none(), "{place:?} {roles:?}: {refused:?}"),
                Some(part) => {
                    let error = refused.expect("it is refused").to_string();
                    assert!(error.contains(part), "{place:?} {roles:?}: {error}");
                }
            }
        }
    }
}
