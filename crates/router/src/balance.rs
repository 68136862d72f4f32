//! Which endpoint a request goes to.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::Timestamp;
use http::HeaderMap;
use rand::Rng;

use crate::hash;
use crate::table::{Pool, Target};

/// What the request itself demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Any,
    /// The instance a session sticks to; another one serves when it is gone.
    Session(String),
    /// `X-CF-APP-INSTANCE: APP:INDEX`.
    App {
        app: String,
        index: u32,
    },
    /// `X-CF-PROCESS-INSTANCE: PROCESS[:INDEX]`.
    Process {
        process: String,
        index: Option<u32>,
    },
}

impl Wish {
    pub(crate) fn admits(&self, target: &Target) -> bool {
        let endpoint = &target.endpoint;
        match self {
            Wish::Any | Wish::Session(_) => true,
            Wish::App { app, index } => *endpoint.log_guid == **app && endpoint.key.index == *index,
            Wish::Process { process, index } => {
                endpoint.tags.get("process_id").is_some_and(|id| id == process)
                    && index.is_none_or(|index| endpoint.key.index == index)
            }
        }
    }
}

#[derive(Debug)]
pub(crate) enum Choice {
    Target(Arc<Target>),
    /// The wish names nobody who is here.
    Unknown,
    /// Everybody has as many requests as allowed.
    Full,
    /// Everybody was tried.
    Exhausted,
}

/// The next endpoint for a request that has `tried` some already. Failed endpoints are passed over while others are left.
pub(crate) fn choose(
    pool: &Pool,
    wish: &Wish,
    headers: &HeaderMap,
    tried: &[Arc<Target>],
    max_in_flight: usize,
    now: Timestamp,
    rng: &mut impl Rng,
) -> Choice {
    let endpoints = pool.endpoints.read();
    let admitted: Vec<&Arc<Target>> =
        endpoints.iter().filter(|target| wish.admits(target)).collect();
    if admitted.is_empty() {
        return if tried.is_empty() { Choice::Unknown } else { Choice::Exhausted };
    }
    let untried: Vec<_> = admitted
        .into_iter()
        .filter(|target| !tried.iter().any(|t| Arc::ptr_eq(t, target)))
        .collect();
    if untried.is_empty() {
        return Choice::Exhausted;
    }
    let free: Vec<_> = untried
        .into_iter()
        .filter(|target| target.in_flight.load(Ordering::Relaxed) < max_in_flight)
        .collect();
    if free.is_empty() {
        return Choice::Full;
    }
    if let Wish::Session(instance) = wish
        && let Some(target) =
            free.iter().find(|target| target.endpoint.instance_guid.as_str() == instance)
    {
        return Choice::Target(Arc::clone(target));
    }
    let healthy: Vec<_> = free.iter().copied().filter(|target| !target.is_failed(now)).collect();
    let among = if healthy.is_empty() { &free } else { &healthy };
    let options = &among[0].endpoint.options;
    let hashed = hash::Rule::of(options)
        .and_then(|rule| Some(rule.pick(among, &endpoints, headers.get(rule.header)?.as_bytes())));
    if let Some(chosen) = hashed {
        return Choice::Target(Arc::clone(chosen));
    }
    let chosen = match options.get("loadbalancing").and_then(|name| name.as_str()) {
        Some("least-connection") => least_connection(among, rng),
        _ => among[pool.next.fetch_add(1, Ordering::Relaxed) % among.len()],
    };
    Choice::Target(Arc::clone(chosen))
}

fn least_connection<'a>(among: &[&'a Arc<Target>], rng: &mut impl Rng) -> &'a Arc<Target> {
    let load = |target: &Target| target.in_flight.load(Ordering::Relaxed);
    let least = among.iter().map(|target| load(target)).min().unwrap_or(0);
    let idle: Vec<_> = among.iter().filter(|target| load(target) <= least).collect();
    // Loads move meanwhile, so nobody may be at the least any more.
    if idle.is_empty() { among[0] } else { idle[rng.random_range(0..idle.len())] }
}

/// Of the endpoints not tried yet, the one with the fewest connections; among equals each in its turn. Failed ones are
/// passed over while others are left.
pub(crate) fn least_busy(
    pool: &Pool,
    tried: &[Arc<Target>],
    now: Timestamp,
) -> Option<Arc<Target>> {
    let endpoints = pool.endpoints.read();
    let untried: Vec<_> =
        endpoints.iter().filter(|target| !tried.iter().any(|t| Arc::ptr_eq(t, target))).collect();
    let healthy: Vec<_> = untried.iter().copied().filter(|target| !target.is_failed(now)).collect();
    let among = if healthy.is_empty() { untried } else { healthy };
    let turn = pool.next.fetch_add(1, Ordering::Relaxed);
    let in_turn = (0..among.len()).map(|at| among[turn.wrapping_add(at) % among.len()]);
    in_turn.min_by_key(|target| target.in_flight.load(Ordering::Relaxed)).cloned()
}

#[cfg(test)]
mod tests {
    use diego::routing::TableUpdate;
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::table::Table;
    use crate::table::tests::endpoint;

    fn pool(instances: u32) -> Arc<Pool> {
        let table = Table::default();
        let add =
            (0..instances).map(|n| ("a.com".to_owned(), endpoint(&format!("i{n}"), n))).collect();
        table.apply(TableUpdate::Delta { add, remove: vec![] });
        table.lookup("a.com", "/").unwrap()
    }

    fn pick(pool: &Pool, wish: &Wish, tried: &[Arc<Target>]) -> String {
        pick_with(pool, wish, &HeaderMap::new(), tried)
    }

    fn pick_with(pool: &Pool, wish: &Wish, headers: &HeaderMap, tried: &[Arc<Target>]) -> String {
        let rng = &mut SmallRng::seed_from_u64(1);
        match choose(pool, wish, headers, tried, 2, Timestamp::from_secs(1), rng) {
            Choice::Target(target) => target.endpoint.instance_guid.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn requests_go_round() {
        let pool = pool(3);
        let mut got: Vec<_> = (0..6).map(|_| pick(&pool, &Wish::Any, &[])).collect();
        got.sort();
        assert_eq!(got, ["i0", "i0", "i1", "i1", "i2", "i2"]);
    }

    #[test]
    fn a_header_leads_to_one_endpoint_where_the_route_wants_it() {
        let table = Table::default();
        let hash = serde_json::json!({ "loadbalancing": "hash", "hash_header": "X-User" });
        let add = (0..3).map(|n| {
            let one = endpoint(&format!("i{n}"), n);
            ("a.com".to_owned(), diego::routing::Endpoint { options: hash.clone(), ..one })
        });
        table.apply(TableUpdate::Delta { add: add.collect(), remove: vec![] });
        let pool = table.lookup("a.com", "/").unwrap();
        let user = HeaderMap::from_iter([("x-user".parse().unwrap(), "ann".parse().unwrap())]);
        let ann = pick_with(&pool, &Wish::Any, &user, &[]);
        assert!((0..6).all(|_| pick_with(&pool, &Wish::Any, &user, &[]) == ann));
        // A session, a failed try and a request without the header go elsewhere.
        let other = ["i0", "i1", "i2"].into_iter().find(|name| *name != ann).unwrap();
        assert_eq!(pick_with(&pool, &Wish::Session(other.into()), &user, &[]), other);
        let tried: Vec<_> = pool
            .endpoints
            .read()
            .iter()
            .filter(|target| target.endpoint.instance_guid.as_str() == ann)
            .cloned()
            .collect();
        let next = pick_with(&pool, &Wish::Any, &user, &tried);
        assert_ne!(next, ann);
        assert_eq!(pick_with(&pool, &Wish::Any, &user, &tried), next);
        let mut all: Vec<_> = (0..3).map(|_| pick(&pool, &Wish::Any, &[])).collect();
        all.sort();
        assert_eq!(all, ["i0", "i1", "i2"]);
    }

    #[test]
    fn wishes_are_kept_or_refused() {
        let pool = pool(3);
        assert_eq!(pick(&pool, &Wish::Session("i2".into()), &[]), "i2");
        assert_eq!(pick(&pool, &Wish::App { app: "app".into(), index: 1 }, &[]), "i1");
        assert_eq!(pick(&pool, &Wish::App { app: "app".into(), index: 9 }, &[]), "Unknown");
        assert_eq!(
            pick(&pool, &Wish::Process { process: "process".into(), index: Some(0) }, &[]),
            "i0"
        );
    }

    #[test]
    fn tried_failed_and_full_endpoints_are_passed_over() {
        let pool = pool(2);
        let targets: Vec<_> = pool.endpoints.read().clone();
        assert_eq!(pick(&pool, &Wish::Any, &targets[..1]), "i1");
        assert_eq!(pick(&pool, &Wish::Any, &targets), "Exhausted");
        targets[0].mark_failed(Timestamp::from_secs(9));
        assert_eq!([pick(&pool, &Wish::Any, &[]), pick(&pool, &Wish::Any, &[])], ["i1", "i1"]);
        targets.iter().for_each(|target| target.in_flight.store(2, Ordering::Relaxed));
        assert_eq!(pick(&pool, &Wish::Any, &[]), "Full");
    }

    #[test]
    fn connections_go_where_the_fewest_are() {
        let pool = pool(3);
        let targets: Vec<_> = pool.endpoints.read().clone();
        let pick = |tried: &[Arc<Target>]| {
            least_busy(&pool, tried, Timestamp::from_secs(1))
                .map(|target| target.endpoint.instance_guid.to_string())
        };
        let mut all: Vec<_> = (0..3).map(|_| pick(&[]).unwrap()).collect();
        all.sort();
        assert_eq!(all, ["i0", "i1", "i2"], "equals take turns");
        targets[0].in_flight.store(2, Ordering::Relaxed);
        targets[1].in_flight.store(1, Ordering::Relaxed);
        assert_eq!(pick(&[]).unwrap(), "i2");
        assert_eq!(pick(&targets[2..]).unwrap(), "i1");
        targets[1].mark_failed(Timestamp::from_secs(9));
        assert_eq!(pick(&targets[2..]).unwrap(), "i0");
        assert_eq!(pick(&[targets[0].clone(), targets[2].clone()]).unwrap(), "i1");
        assert_eq!(pick(&targets), None);
    }
}
