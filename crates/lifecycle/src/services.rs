//! What an app's environment gets from its bound services and its instance.

use serde_json::Value;

/// `DATABASE_URL`: the first bound `credentials.uri` of a relational database, with the scheme Rails expects.
pub fn database_url(vcap_services: &str) -> Option<String> {
    let services: Value = serde_json::from_str(vcap_services).ok()?;
    let bindings = services.as_object()?.values().filter_map(Value::as_array).flatten();
    bindings.filter_map(|binding| binding.get("credentials")?.get("uri")?.as_str()).find_map(
        |uri| {
            let (scheme, rest) = uri.split_once(':')?;
            let scheme = match scheme {
                "mysql" | "mysql2" => "mysql2",
                "postgres" | "postgresql" => "postgres",
                _ => return None,
            };
            Some(format!("{scheme}:{rest}"))
        },
    )
}

/// `VCAP_APPLICATION` with what only the instance knows; text that is no JSON object stays away.
pub fn vcap_application(text: &str, instance: &Instance) -> Option<String> {
    let mut fields = match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => fields,
        _ => return None,
    };
    fields.insert("host".into(), "0.0.0.0".into());
    fields.insert("instance_id".into(), instance.guid.clone().into());
    if let Some(port) = instance.port {
        fields.insert("port".into(), port.into());
    }
    if let Some(index) = instance.index {
        fields.insert("instance_index".into(), index.into());
    }
    Some(Value::Object(fields).to_string())
}

/// What the cell told this instance about itself.
#[derive(Clone, Debug, Default)]
pub struct Instance {
    pub guid: String,
    pub index: Option<u32>,
    pub port: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url_of(uri: &str) -> Option<String> {
        let other = r#"{"name":"queue","credentials":{"uri":"amqp://x"}}"#;
        database_url(&format!(r#"{{"a":[{other}],"b":[{{"credentials":{{"uri":"{uri}"}}}}]}}"#))
    }

    #[test]
    fn database_schemes_become_those_of_rails() {
        assert_eq!(url_of("mysql://u:p@h/d").as_deref(), Some("mysql2://u:p@h/d"));
        assert_eq!(url_of("mysql2://h/d").as_deref(), Some("mysql2://h/d"));
        assert_eq!(url_of("postgresql://h/d?a=b").as_deref(), Some("postgres://h/d?a=b"));
        assert_eq!(url_of("postgres://h/d").as_deref(), Some("postgres://h/d"));
        assert_eq!(url_of("redis://h"), None);
        assert_eq!(database_url("{}"), None);
        assert_eq!(database_url("no json"), None);
    }

    #[test]
    fn an_instance_adds_its_own_facts() {
        let instance = Instance { guid: "g".into(), index: Some(2), port: Some(8080) };
        let text = vcap_application(r#"{"name":"app"}"#, &instance).unwrap();
        let fields: Value = serde_json::from_str(&text).unwrap();
        let want = serde_json::json!({"name": "app", "host": "0.0.0.0", "instance_id": "g", "instance_index": 2, "port": 8080});
        assert_eq!(fields, want);
        assert_eq!(vcap_application("", &instance), None);
    }
}
