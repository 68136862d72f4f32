//! Which endpoint the value of a header leads to (`loadbalancing: hash`). By rendezvous hashing: every router finds the
//! same one, and an endpoint that comes or goes moves only the values that lead to it.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::Value;
use twox_hash::XxHash64;

use crate::table::Target;

/// What a route's options say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rule<'a> {
    pub(crate) header: &'a str,
    /// How many times the mean of the requests under way an endpoint may have before others take what is its own.
    balance: Option<f64>,
}

impl<'a> Rule<'a> {
    /// `None` when the route wants something else, or does not say which header.
    pub(crate) fn of(options: &'a Value) -> Option<Rule<'a>> {
        if options.get("loadbalancing")? != "hash" {
            return None;
        }
        let header = options.get("hash_header")?.as_str().filter(|name| !name.is_empty())?;
        let number =
            |value: &Value| value.as_f64().or_else(|| value.as_str().and_then(|t| t.parse().ok()));
        let balance = options.get("hash_balance").and_then(number).filter(|factor| *factor > 0.0);
        Some(Rule { header, balance })
    }

    /// The one of `among`, which is not empty, that `value` leads to; with a balance the next in its order when that one
    /// has too much to do, measured by `all` endpoints of the route.
    pub(crate) fn pick<'t>(
        &self,
        among: &[&'t Arc<Target>],
        all: &[Arc<Target>],
        value: &[u8],
    ) -> &'t Arc<Target> {
        let seed = XxHash64::oneshot(0, value);
        let weight = |target: &Target| {
            XxHash64::oneshot(seed, target.endpoint.instance_guid.as_str().as_bytes())
        };
        let mut order = among.to_vec();
        order.sort_by_cached_key(|target| Reverse(weight(target)));
        let has_room =
            |target: &Target| self.balance.is_none_or(|factor| !is_busy(target, all, factor));
        order.iter().find(|target| has_room(target)).unwrap_or(&order[0])
    }
}

/// More than `factor` times the mean.
fn is_busy(target: &Target, all: &[Arc<Target>], factor: f64) -> bool {
    let load = |target: &Target| exact(target.in_flight.load(Ordering::Relaxed));
    let total: f64 = all.iter().map(|target| load(target)).sum();
    load(target) * exact(all.len()) > factor * total
}

fn exact(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use diego::routing::TableUpdate;
    use serde_json::json;

    use super::*;
    use crate::table::Table;
    use crate::table::tests::endpoint;

    fn targets(instances: u32) -> Vec<Arc<Target>> {
        let table = Table::default();
        let add =
            (0..instances).map(|n| ("a.com".to_owned(), endpoint(&format!("i{n}"), n))).collect();
        table.apply(TableUpdate::Delta { add, remove: vec![] });
        let pool = table.lookup("a.com", "/").unwrap();
        pool.endpoints.read().clone()
    }

    fn rule(balance: Option<f64>) -> Rule<'static> {
        Rule { header: "x", balance }
    }

    fn pick(rule: Rule<'_>, all: &[Arc<Target>], value: &str) -> String {
        let among: Vec<_> = all.iter().collect();
        rule.pick(&among, all, value.as_bytes()).endpoint.instance_guid.to_string()
    }

    fn values() -> impl Iterator<Item = String> {
        (0..1000).map(|n| format!("user-{n}"))
    }

    #[test]
    fn only_a_whole_rule_is_one() {
        let of =
            |options: &Value| Rule::of(options).map(|rule| (rule.header.to_owned(), rule.balance));
        let hash = json!({ "loadbalancing": "hash", "hash_header": "X-User" });
        assert_eq!(of(&hash), Some(("X-User".to_owned(), None)));
        let mut balanced = hash.clone();
        for (balance, read) in
            [(json!(1.25), Some(1.25)), (json!("1.25"), Some(1.25)), (json!(0), None)]
        {
            balanced["hash_balance"] = balance;
            assert_eq!(of(&balanced), Some(("X-User".to_owned(), read)));
        }
        for none in [
            json!(null),
            json!({ "loadbalancing": "hash" }),
            json!({ "loadbalancing": "hash", "hash_header": "" }),
            json!({ "loadbalancing": "round-robin", "hash_header": "X-User" }),
        ] {
            assert_eq!(of(&none), None, "{none}");
        }
    }

    #[test]
    fn values_spread_and_stay_where_they_are() {
        let four = targets(4);
        let mut backwards = four.clone();
        backwards.reverse();
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for value in values() {
            let chosen = pick(rule(None), &four, &value);
            assert_eq!(
                chosen,
                pick(rule(None), &backwards, &value),
                "another router finds the same"
            );
            // Without the last one, what did not lead to it stays.
            let without = pick(rule(None), &four[..3], &value);
            assert!(without == chosen || chosen == "i3", "{value}: {chosen}, then {without}");
            *counts.entry(chosen).or_default() += 1;
        }
        assert_eq!(counts.len(), 4, "{counts:?}");
        assert!(counts.values().all(|count| (180..320).contains(count)), "{counts:?}");
    }

    #[test]
    fn whoever_has_too_much_to_do_is_passed_over() {
        let four = targets(4);
        let first = pick(rule(Some(1.5)), &four, "user");
        let busy = four.iter().find(|t| t.endpoint.instance_guid.as_str() == first).unwrap();
        four.iter().for_each(|target| target.in_flight.store(2, Ordering::Relaxed));
        busy.in_flight.store(3, Ordering::Relaxed);
        assert_eq!(pick(rule(Some(1.5)), &four, "user"), first, "3 of 9 on four is within");
        busy.in_flight.store(9, Ordering::Relaxed);
        let rest: Vec<_> = four.iter().filter(|t| !Arc::ptr_eq(t, busy)).cloned().collect();
        assert_eq!(pick(rule(Some(1.5)), &four, "user"), pick(rule(None), &rest, "user"));
        assert_eq!(pick(rule(None), &four, "user"), first, "without balance it stays");
    }
}
