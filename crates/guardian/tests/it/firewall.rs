//! A host whose own firewall lets nothing through by default.

use std::process::Command;

use garden::contract::{outcome, sh};
use garden::{ContainerSpec, EgressRule, Garden, Protocol};

use crate::bed::{Bed, is_root};
use crate::world::{HOST, PUBLIC, World};

/// As Docker and ufw leave it, and as firewalld does.
const FIREWALL: &str = "
table ip filter {
  chain FORWARD { type filter hook forward priority 0; policy drop; }
  chain INPUT { type filter hook input priority 0; policy drop; }
}
table inet firewalld {
  chain filter_FORWARD {
    type filter hook forward priority 10; policy accept
    ct state established accept
    reject with icmpx admin-prohibited
  }
}
";

/// In a network of its own, since the firewall would be everybody's.
#[tokio::test(flavor = "multi_thread")]
async fn a_firewall_that_drops_by_default_is_opened_for_containers() {
    if !is_root() {
        return;
    }
    let mut command = tokio::process::Command::new("unshare");
    command.arg("--net").arg(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "firewall::behind_a_firewall"]).kill_on_drop(true);
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

fn ruleset() -> String {
    let listed = Command::new("nft").args(["-s", "list", "ruleset"]).output().unwrap();
    String::from_utf8_lossy(&listed.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by a_firewall_that_drops_by_default_is_opened_for_containers"]
async fn behind_a_firewall() {
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
    let world = World::new();
    assert!(Command::new("nft").arg(FIREWALL).status().unwrap().success());
    let before = ruleset();
    let mut bed = Bed::new();
    bed.config.host_ip = HOST;
    let gateway = bed.config.network.gateway();
    bed.config.dns_overrides = vec![("apps.test".into(), gateway)];
    let rule = EgressRule {
        protocol: Protocol::Tcp,
        destinations: vec!["203.0.113.0/24".into()],
        ports: vec![80],
        port_range: None,
        icmp_type: None,
        icmp_code: None,
        log: false,
    };
    let garden = bed.open().await;
    // A second life finds what the first has opened, and opens nothing twice.
    garden.shutdown(false).await.unwrap();
    drop(garden);
    let garden = bed.open().await;
    // Two ways through each of the two chains that forward, and one into the host.
    assert_eq!(ruleset().matches("accept comment").count(), 5, "{}", ruleset());
    let spec = ContainerSpec { egress: vec![rule], ports: vec![8080], ..bed.fixture.spec() };
    let info = garden.create(spec).await.unwrap();
    let reach =
        |port| format!("bash -c 'exec 3<>/dev/tcp/{PUBLIC}/{port} && timeout 30 cat <&3' 2>&1");
    let (said, _) = outcome(&*garden, &info.handle, "vcap", &reach(80)).await;
    assert_eq!(said, format!("{HOST}\n"));
    let (said, _) = outcome(&*garden, &info.handle, "vcap", &reach(81)).await;
    assert!(said.contains("refused"), "our own rules still decide: {said}");
    let (said, _) =
        outcome(&*garden, &info.handle, "vcap", "getent ahostsv4 one.apps.test | head -1").await;
    assert_eq!(said.split(' ').next(), Some(&*gateway.to_string()), "names are resolved");
    let serve = "exec perl -MIO::Socket::INET -e '$l = IO::Socket::INET->new(LocalPort => 8080, Listen => 9, ReuseAddr => 1) or die; \
                 $| = 1; print qq(ready\\n); while ($c = $l->accept) { print $c qq(inside\\n); close $c }'";
    let mut process = garden.run(&info.handle, sh("vcap", serve)).await.unwrap();
    process.output.recv().await.unwrap();
    assert_eq!(world.ask((HOST, info.ports[0].host_port).into()).unwrap(), "inside\n");
    garden.shutdown(true).await.unwrap();
    assert_eq!(ruleset(), before, "the firewall is as it was");
    bed.assert_nothing_left();
}
