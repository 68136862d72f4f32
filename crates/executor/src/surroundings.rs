//! What a process is told about where it runs.

use diego::action::{EnvVar, RunAction};
use diego::{NetInfo, PortMapping};
use garden::ProcessSpec;
use serde_json::json;

/// The process a run action asks for: `env`, then the action's environment, then the network's.
pub(crate) fn process(env: &[(String, String)], action: &RunAction, net: &NetInfo) -> ProcessSpec {
    let own = action.env.iter().map(|var| {
        (var.name.clone(), ported(var, &net.ports).unwrap_or_else(|| var.value.clone()))
    });
    let env = env.iter().cloned().chain(own).chain(network(net)).collect();
    ProcessSpec {
        id: None,
        path: action.path.clone(),
        args: action.args.iter().map(|arg| ported_argument(arg, &net.ports)).collect(),
        env,
        dir: action.dir.clone(),
        user: action.user.clone(),
        nofile: action.resource_limits.nofile,
        ..ProcessSpec::default()
    }
}

/// Those of a container's variables that have to be said again, because they name a port that was moved.
pub(crate) fn amended(env: &[EnvVar], ports: &[PortMapping]) -> Vec<(String, String)> {
    env.iter().filter_map(|var| ported(var, ports).map(|value| (var.name.clone(), value))).collect()
}

/// A variable that names the port to listen on follows it where the backend has chosen another.
fn ported(variable: &EnvVar, ports: &[PortMapping]) -> Option<String> {
    if !matches!(variable.name.as_str(), "PORT" | "VCAP_APP_PORT") {
        return None;
    }
    let named = moved(ports).find(|port| port.container_port.to_string() == variable.value);
    named.map(|port| port.listen_port.to_string())
}

/// So do arguments that end in an address: `-address=0.0.0.0:2222`.
fn ported_argument(argument: &str, ports: &[PortMapping]) -> String {
    let ending = |port: &PortMapping| argument.strip_suffix(&format!(":{}", port.container_port));
    moved(ports)
        .find_map(|port| ending(port).map(|head| format!("{head}:{}", port.listen_port)))
        .unwrap_or_else(|| argument.to_owned())
}

fn moved(ports: &[PortMapping]) -> impl Iterator<Item = &PortMapping> {
    ports.iter().filter(|port| port.listen_port != port.container_port)
}

fn network(net: &NetInfo) -> Vec<(String, String)> {
    let (port, address) = match net.ports.first() {
        Some(first) => {
            (first.host_port.to_string(), format!("{}:{}", net.address, first.host_port))
        }
        None => (String::new(), String::new()),
    };
    let ports: Vec<_> = net
        .ports
        .iter()
        .map(|port| json!({ "external": port.host_port, "internal": port.listen_port }))
        .collect();
    [
        ("CF_INSTANCE_IP", net.address.to_string()),
        ("CF_INSTANCE_INTERNAL_IP", net.instance_address.to_string()),
        ("CF_INSTANCE_PORT", port),
        ("CF_INSTANCE_ADDR", address),
        ("CF_INSTANCE_PORTS", serde_json::Value::from(ports).to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(ports: &[(u16, u16, u16)]) -> NetInfo {
        let ports = ports.iter().map(|&(container_port, listen_port, host_port)| PortMapping {
            container_port,
            listen_port,
            host_port,
        });
        NetInfo {
            address: [10, 0, 0, 1].into(),
            instance_address: [10, 255, 0, 2].into(),
            ports: ports.collect(),
        }
    }

    #[test]
    fn the_network_comes_last_and_wins() {
        let env = vec![
            EnvVar::new("A", "1"),
            EnvVar::new("PORT", "8080"),
            EnvVar::new("CF_INSTANCE_IP", "mine"),
        ];
        let action = RunAction { env, ..RunAction::default() };
        let lines: Vec<_> =
            process(&[], &action, &net(&[(8080, 8080, 61001), (2222, 2222, 61002)]))
                .env
                .into_iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
        assert_eq!(
            lines,
            [
                "A=1",
                "PORT=8080",
                "CF_INSTANCE_IP=mine",
                "CF_INSTANCE_IP=10.0.0.1",
                "CF_INSTANCE_INTERNAL_IP=10.255.0.2",
                "CF_INSTANCE_PORT=61001",
                "CF_INSTANCE_ADDR=10.0.0.1:61001",
                r#"CF_INSTANCE_PORTS=[{"external":61001,"internal":8080},{"external":61002,"internal":2222}]"#,
            ]
        );
    }

    #[test]
    fn without_ports_the_variables_are_empty() {
        let env = network(&net(&[]));
        assert_eq!(
            env[2..],
            [("CF_INSTANCE_PORT", ""), ("CF_INSTANCE_ADDR", ""), ("CF_INSTANCE_PORTS", "[]")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn a_moved_port_is_followed() {
        let net = net(&[(8080, 40001, 40001), (2222, 40002, 40002)]);
        let action = RunAction {
            args: vec!["-address=0.0.0.0:2222".into(), "8080".into()],
            env: vec![EnvVar::new("PORT", "8080"), EnvVar::new("OTHER", "8080")],
            ..RunAction::default()
        };
        let process = process(
            &amended(&[EnvVar::new("VCAP_APP_PORT", "8080"), EnvVar::new("X", "8080")], &net.ports),
            &action,
            &net,
        );
        assert_eq!(process.args, ["-address=0.0.0.0:40002", "8080"]);
        let told: Vec<_> =
            process.env[..3].iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(told, ["VCAP_APP_PORT=40001", "PORT=40001", "OTHER=8080"]);
    }
}
