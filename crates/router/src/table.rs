//! The route table: host and path to a pool of endpoints. Routes match without regard to case, by whole path segments,
//! longest first; an exact host before a wildcard (gorouter's rules).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use base::Timestamp;
use diego::InstanceGuid;
use diego::routing::{Endpoint, TableUpdate};
use parking_lot::RwLock;

/// Read by every request, changed by deltas.
#[derive(Debug, Default)]
pub struct Table(RwLock<Hosts>);

/// Per host, its paths, longest first (`""` is the whole host).
#[derive(Debug, Default)]
struct Hosts(HashMap<String, Vec<(String, Arc<Pool>)>>);

/// The endpoints of one route; never empty while it is in the table.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    /// The route's path, which sticky cookies are bound to.
    pub(crate) path: String,
    pub(crate) endpoints: RwLock<Vec<Arc<Target>>>,
    pub(crate) next: AtomicUsize,
}

/// An endpoint and how it fares.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) endpoint: Endpoint,
    pub(crate) in_flight: AtomicUsize,
    /// Passed over until then, while others are left.
    failed_until: AtomicI64,
}

impl Target {
    fn new(endpoint: Endpoint) -> Arc<Target> {
        Arc::new(Target {
            endpoint,
            in_flight: AtomicUsize::new(0),
            failed_until: AtomicI64::new(0),
        })
    }

    pub(crate) fn mark_failed(&self, until: Timestamp) {
        self.failed_until.store(until.as_nanos(), Ordering::Relaxed);
    }

    pub(crate) fn is_failed(&self, now: Timestamp) -> bool {
        self.failed_until.load(Ordering::Relaxed) > now.as_nanos()
    }
}

impl Pool {
    /// An instance that is there already is replaced, unless nothing about it changed.
    pub(crate) fn put(&self, endpoint: Endpoint) {
        let mut endpoints = self.endpoints.write();
        match endpoints
            .iter_mut()
            .find(|known| known.endpoint.instance_guid == endpoint.instance_guid)
        {
            Some(known) if known.endpoint == endpoint => {}
            Some(known) => *known = Target::new(endpoint),
            None => endpoints.push(Target::new(endpoint)),
        }
    }

    pub(crate) fn take(&self, instance: &InstanceGuid) {
        self.endpoints.write().retain(|target| target.endpoint.instance_guid != *instance);
    }

    /// Lets go of every instance that is not among these.
    pub(crate) fn keep(&self, these: &[Endpoint]) {
        let stays = |target: &Arc<Target>| {
            these.iter().any(|one| one.instance_guid == target.endpoint.instance_guid)
        };
        self.endpoints.write().retain(stays);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.endpoints.read().is_empty()
    }

    pub(crate) fn tell(&self) -> Vec<Endpoint> {
        self.endpoints.read().iter().map(|target| target.endpoint.clone()).collect()
    }
}

impl Table {
    /// Visible to every request that begins after this returns.
    pub fn apply(&self, update: TableUpdate) {
        let mut hosts = self.0.write();
        match update {
            TableUpdate::Snapshot(routes) => {
                let mut fresh = Hosts::default();
                routes.into_iter().for_each(|(route, endpoint)| fresh.add(&route, endpoint));
                *hosts = fresh;
            }
            TableUpdate::Delta { add, remove } => {
                add.into_iter().for_each(|(route, endpoint)| hosts.add(&route, endpoint));
                remove.iter().for_each(|(route, instance)| hosts.remove(route, instance));
            }
        }
    }

    /// `host` in lower case without port, `path` as the client wrote it.
    pub(crate) fn lookup(&self, host: &str, path: &str) -> Option<Arc<Pool>> {
        let hosts = self.0.read();
        let path = path.to_ascii_lowercase();
        if let Some(pool) = hosts.find(host, &path) {
            return Some(pool);
        }
        let mut rest = host;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(pool) = hosts.find(&format!("*.{parent}"), &path) {
                return Some(pool);
            }
            rest = parent;
        }
        None
    }

    /// What stands behind exactly this route (`host` or `host/path`); empty when it is not in the table.
    pub fn endpoints(&self, route: &str) -> Vec<Endpoint> {
        let (host, path) = split(route);
        let hosts = self.0.read();
        let paths = hosts.0.get(&host).into_iter().flatten();
        paths.filter(|(known, _)| *known == path).flat_map(|(_, pool)| pool.tell()).collect()
    }

    /// Routes and endpoints, counted.
    pub fn size(&self) -> (usize, usize) {
        let hosts = self.0.read();
        let pools = || hosts.0.values().flatten();
        (pools().count(), pools().map(|(_, pool)| pool.endpoints.read().len()).sum())
    }
}

impl Hosts {
    fn add(&mut self, route: &str, endpoint: Endpoint) {
        let (host, path) = split(route);
        let paths = self.0.entry(host).or_default();
        let at = match paths.iter().position(|(known, _)| *known == path) {
            Some(at) => at,
            None => {
                let at = paths.partition_point(|(known, _)| known.len() >= path.len());
                paths.insert(at, (path.clone(), Arc::new(Pool { path, ..Pool::default() })));
                at
            }
        };
        paths[at].1.put(endpoint);
    }

    fn remove(&mut self, route: &str, instance: &InstanceGuid) {
        let (host, path) = split(route);
        let Some(paths) = self.0.get_mut(&host) else { return };
        paths.retain(|(known, pool)| {
            if *known != path {
                return true;
            }
            pool.take(instance);
            !pool.is_empty()
        });
        if paths.is_empty() {
            self.0.remove(&host);
        }
    }

    fn find(&self, host: &str, path: &str) -> Option<Arc<Pool>> {
        let paths = self.0.get(host)?;
        paths.iter().find(|(prefix, _)| covers(prefix, path)).map(|(_, pool)| pool.clone())
    }
}

/// Whether `path` is `prefix` or lies below it.
fn covers(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A route as `host[/path]`, in lower case, without port and closing slash.
fn split(route: &str) -> (String, String) {
    let route = route.to_ascii_lowercase();
    let (host, path) = route.find('/').map_or((route.as_str(), ""), |at| route.split_at(at));
    let host = host.split(':').next().unwrap_or_default();
    (host.to_owned(), path.trim_end_matches('/').to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use diego::LrpKey;
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn endpoint(instance: &str, index: u32) -> Endpoint {
        Endpoint {
            address: ([127, 0, 0, 1], 1000 + u16::try_from(index).unwrap()).into(),
            key: LrpKey { process_guid: "process".into(), index, domain: "test".into() },
            instance_guid: instance.into(),
            http2: false,
            route_service_url: String::new(),
            options: serde_json::Value::Null,
            log_guid: "app".into(),
            tags: Arc::new(BTreeMap::from([("process_id".to_owned(), "process".to_owned())])),
        }
    }

    fn table(routes: &[(&str, &str)]) -> Table {
        let table = Table::default();
        let add = routes
            .iter()
            .map(|(route, instance)| ((*route).to_owned(), endpoint(instance, 0)))
            .collect();
        table.apply(TableUpdate::Delta { add, remove: vec![] });
        table
    }

    fn found(table: &Table, host: &str, path: &str) -> String {
        match table.lookup(host, path) {
            Some(pool) => pool
                .endpoints
                .read()
                .iter()
                .map(|t| t.endpoint.instance_guid.to_string())
                .collect::<Vec<_>>()
                .join(","),
            None => "-".to_owned(),
        }
    }

    #[test]
    fn the_longest_path_of_whole_segments_wins() {
        let table = table(&[("a.com", "root"), ("a.com/foo", "foo"), ("A.com/Foo/Bar/", "bar")]);
        let got: Vec<_> = ["/", "/foo", "/foobar", "/FOO/x", "/foo/bar", "/foo/bar/baz"]
            .map(|path| found(&table, "a.com", path))
            .into();
        assert_eq!(got, ["root", "foo", "root", "foo", "bar", "bar"]);
    }

    #[test]
    fn endpoints_are_those_of_exactly_that_route() {
        let table = table(&[("a.com", "root"), ("A.com/foo/", "foo"), ("*.com", "wild")]);
        let told = |route| -> Vec<String> {
            let found = table.endpoints(route).into_iter();
            found.map(|endpoint| endpoint.instance_guid.to_string()).collect()
        };
        assert_eq!(told("a.com"), ["root"]);
        assert_eq!(told("a.com/Foo"), ["foo"]);
        assert!(told("b.com").is_empty() && told("a.com/foo/x").is_empty());
    }

    #[test]
    fn a_wildcard_covers_several_labels_and_gives_way_to_an_exact_host() {
        let table = table(&[("*.a.com", "wild"), ("x.a.com/only", "exact"), ("*.b.a.com", "deep")]);
        assert_eq!(found(&table, "y.a.com", "/"), "wild");
        assert_eq!(found(&table, "z.y.a.com", "/"), "wild");
        assert_eq!(found(&table, "x.a.com", "/only/this"), "exact");
        assert_eq!(found(&table, "x.a.com", "/"), "wild");
        assert_eq!(found(&table, "y.b.a.com", "/"), "deep");
        assert_eq!(found(&table, "a.com", "/"), "-");
    }

    #[test]
    fn an_emptied_route_is_gone() {
        let table = table(&[("a.com", "one")]);
        table.apply(TableUpdate::Delta {
            add: vec![("a.com".to_owned(), endpoint("two", 1))],
            remove: vec![("a.com".to_owned(), "one".into())],
        });
        assert_eq!(found(&table, "a.com", "/"), "two");
        table.apply(TableUpdate::Delta {
            add: vec![],
            remove: vec![("a.com".to_owned(), "two".into())],
        });
        assert_eq!(found(&table, "a.com", "/"), "-");
        assert_eq!(table.size(), (0, 0));
    }

    proptest! {
        /// However the deltas came, the table is what a snapshot of the rest would be.
        #[test]
        fn deltas_add_up_to_a_snapshot(steps in prop::collection::vec((any::<bool>(), 0..4_u32, 0..3_usize), 0..60)) {
            let routes = ["a.com", "a.com/x", "*.com"];
            let (table, mut model) = (Table::default(), BTreeMap::new());
            for (add, instance, route) in steps {
                let (route, name) = (routes[route].to_owned(), format!("i{instance}"));
                if add {
                    model.insert((route.clone(), name.clone()), endpoint(&name, instance));
                    table.apply(TableUpdate::Delta { add: vec![(route, endpoint(&name, instance))], remove: vec![] });
                } else {
                    model.remove(&(route.clone(), name.clone()));
                    table.apply(TableUpdate::Delta { add: vec![], remove: vec![(route, name.as_str().into())] });
                }
            }
            let whole = Table::default();
            whole.apply(TableUpdate::Snapshot(model.into_iter().map(|((route, _), endpoint)| (route, endpoint)).collect()));
            prop_assert_eq!(table.size(), whole.size());
            for (host, path) in [("a.com", "/"), ("a.com", "/x/y"), ("b.com", "/x")] {
                let sorted = |table: &Table| { let mut all: Vec<_> = found(table, host, path).split(',').map(str::to_owned).collect(); all.sort(); all };
                prop_assert_eq!(sorted(&table), sorted(&whole));
            }
        }
    }
}
