//! What is done for containers before anybody wants them: some wait in a network and groups of their own, and are in the
//! packet filter already by the rules and ports that were asked for last.

use std::sync::Arc;

use base::CancellationToken;
use garden::Result;
use tracing::debug;

use super::Linux;
use super::egress::Chain;
use super::nft::Member;

/// Kinds of container that are made ahead: an app's, and its staging task's.
const KINDS: usize = 2;

/// What a container asks of the packet filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    pub chain: Chain,
    pub ports: Vec<u16>,
}

impl Wish {
    pub fn is_met_by(&self, member: &Member) -> bool {
        member.chain == self.chain
            && self.ports.iter().eq(member.ports.iter().map(|port| &port.asked_port))
    }
}

/// The kinds asked for last, the newest first.
#[derive(Debug, Default)]
pub struct Usual(Vec<Wish>);

impl Usual {
    pub fn note(&mut self, wish: &Wish) {
        self.0.retain(|known| known != wish);
        self.0.insert(0, wish.clone());
        self.0.truncate(KINDS);
    }

    /// The kind of which fewest are ready; the newest of equals.
    pub fn rarest<'a>(&self, ready: impl Iterator<Item = &'a Member> + Clone) -> Option<Wish> {
        let count = |wish: &&Wish| ready.clone().filter(|member| wish.is_met_by(member)).count();
        self.0.iter().min_by_key(count).cloned()
    }
}

/// Keeps as many ready as wanted, until stopped.
pub async fn refill(linux: Arc<Linux>, stop: CancellationToken) {
    let spares = &linux.spares;
    while !stop.is_cancelled() {
        if spares.are_lacking() {
            match spares.clone().make().await {
                Ok(mut spare) => {
                    if let Some(wish) = spares.rarest() {
                        // It is worth keeping without, too: whoever takes it does what is left.
                        spare.member = linux.admit(spare.index, &wish).await.ok();
                    }
                    spares.keep(spare);
                    continue;
                }
                Err(error) => debug!(%error, "nothing made ahead"),
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = spares.wanted() => {}
        }
    }
}

impl Linux {
    /// Finds host ports for a container with this number.
    pub(super) fn member(&self, index: u32, wish: &Wish) -> Result<Member> {
        let ports = self.ports.allocate(&wish.ports)?;
        let address = self.config.network.container(index);
        Ok(Member { address, chain: wish.chain.clone(), ports })
    }

    async fn admit(&self, index: u32, wish: &Wish) -> Result<Member> {
        let member = self.member(index, wish)?;
        self.nft.add(&member).await.map_err(|error| {
            self.ports.release(&member.ports);
            garden::GardenError::failed("filtering packets", error)
        })?;
        Ok(member)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use garden::PortMapping;

    use super::*;
    use crate::linux::egress;

    fn wish(ports: &[u16]) -> Wish {
        Wish { chain: egress::chain(&[]).unwrap(), ports: ports.to_vec() }
    }

    fn member(wish: &Wish) -> Member {
        let port = |port: &u16| PortMapping {
            asked_port: *port,
            container_port: *port,
            host_port: port + 50_000,
        };
        let ports = wish.ports.iter().map(port).collect();
        Member { address: Ipv4Addr::LOCALHOST, chain: wish.chain.clone(), ports }
    }

    #[test]
    fn a_member_meets_the_wish_it_was_made_for_alone() {
        let (app, task) = (wish(&[8080, 2222]), wish(&[]));
        assert!(app.is_met_by(&member(&app)) && task.is_met_by(&member(&task)));
        assert!(!app.is_met_by(&member(&task)) && !task.is_met_by(&member(&app)));
        assert!(!app.is_met_by(&member(&wish(&[8080]))) && !wish(&[8080]).is_met_by(&member(&app)));
    }

    #[test]
    fn the_last_two_kinds_are_kept_alike() {
        let (one, two, three) = (wish(&[1]), wish(&[2]), wish(&[3]));
        let mut usual = Usual::default();
        assert_eq!(usual.rarest([].iter()), None);
        [&one, &two, &three, &three].into_iter().for_each(|wish| usual.note(wish));
        assert_eq!(usual.rarest([].iter()), Some(three.clone()));
        assert_eq!(usual.rarest([member(&three)].iter()), Some(two.clone()));
        let both = [member(&three), member(&two), member(&two)];
        assert_eq!(usual.rarest(both.iter()), Some(three));
    }
}
