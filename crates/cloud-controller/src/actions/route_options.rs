//! What of a route's options may be set, and together with what.

use serde_json::{Map, Value};

/// Pure: a route's options after a change (null removes one), or what is wrong with them. `hash` says whether
/// routing by a hash is switched on.
pub fn changed(
    before: &Value,
    change: &Map<String, Value>,
    hash: bool,
) -> Result<Value, Vec<String>> {
    let known: &[&str] =
        if hash { &["loadbalancing", "hash_header", "hash_balance"] } else { &["loadbalancing"] };
    let algorithms: &[&str] = if hash {
        &["round-robin", "least-connection", "hash"]
    } else {
        &["round-robin", "least-connection"]
    };
    let mut wrong = Vec::new();
    let unknown: Vec<String> = change
        .keys()
        .filter(|key| !known.contains(&key.as_str()))
        .map(|key| format!("'{key}'"))
        .collect();
    if !unknown.is_empty() {
        wrong.push(format!("Options Unknown field(s): {}", unknown.join(", ")));
    }
    let mut after = before.as_object().cloned().unwrap_or_default();
    for (key, value) in change {
        match value {
            Value::Null => drop(after.remove(key)),
            value => drop(after.insert(key.clone(), value.clone())),
        }
    }
    let algorithm =
        after.get("loadbalancing").map(|value| value.as_str().unwrap_or("?").to_owned());
    if algorithm.as_ref().is_some_and(|name| !algorithms.contains(&name.as_str())) {
        wrong.push(format!(
            "Options Loadbalancing must be one of '{}' if present",
            algorithms.join(", ")
        ));
    }
    let hashes = algorithm.as_deref() == Some("hash");
    if !hashes {
        for (key, spoken) in [("hash_header", "Hash header"), ("hash_balance", "Hash balance")] {
            // Going over to another algorithm drops what only a hash needs.
            if after.remove(key).is_some()
                && change.get(key).is_some_and(|value| !value.is_null())
                && hash
            {
                wrong.push(format!("Options {spoken} can only be set when loadbalancing is hash"));
            }
        }
    } else if after.get("hash_header").and_then(Value::as_str).is_none_or(str::is_empty) {
        wrong.push("Hash header must be present when loadbalancing is set to hash.".to_owned());
    }
    if after.get("hash_header").and_then(Value::as_str).is_some_and(|header| header.len() > 128) {
        wrong.push("Options Hash header must be at most 128 characters".to_owned());
    }
    if let Some(balance) = after.get("hash_balance") {
        let number =
            balance.as_f64().or_else(|| balance.as_str().and_then(|text| text.parse().ok()));
        match number {
            None => wrong.push("Options Hash balance must be a numeric value".to_owned()),
            Some(number) if number == 0.0 || (1.1..=10.0).contains(&number) => {}
            Some(_) => wrong
                .push("Options Hash balance must be either 0 or between 1.1 and 10.0".to_owned()),
        }
    }
    if wrong.is_empty() { Ok(Value::Object(after)) } else { Err(wrong) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn options_are_merged_and_checked() {
        let change = |value: Value| value.as_object().unwrap().clone();
        let hash = json!({ "loadbalancing": "hash", "hash_header": "x" });
        assert_eq!(changed(&json!({}), &change(hash.clone()), true).unwrap(), hash);
        let off = changed(&json!({}), &change(hash.clone()), false).unwrap_err();
        assert!(off.iter().any(|text| text.contains("Unknown field(s): 'hash_header'")), "{off:?}");
        let other = change(json!({ "loadbalancing": "round-robin" }));
        assert_eq!(
            changed(&hash, &other, true).unwrap(),
            json!({ "loadbalancing": "round-robin" })
        );
        let none = change(json!({ "loadbalancing": null }));
        assert_eq!(
            changed(&json!({ "loadbalancing": "round-robin" }), &none, false).unwrap(),
            json!({})
        );
    }
}
