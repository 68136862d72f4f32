//! What can be changed while a container runs, and is remembered.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{Fixture, PATIENCE, WAIT, gone, made, ready, sh};
use crate::{ContainerSpec, EgressRule, Garden, GardenError, Handle, Limits, Properties, Protocol};

pub(super) async fn properties(garden: &dyn Garden, fixture: &Fixture) {
    let mut spec = fixture.spec();
    spec.properties.insert("a".into(), "1".into());
    let handle = garden.create(spec).await.expect("a container can be made").handle;
    let stranger = made(garden, fixture).await;
    let mark = Handle::random().to_string();
    garden.set_property(&handle, "b", &mark).await.expect("a property can be set");
    garden.set_property(&handle, "a", "3").await.expect("a property can be changed");
    let want = Properties::from([("a".into(), "3".into()), ("b".into(), mark.clone())]);
    assert_eq!(garden.properties(&handle).await.expect("it is there"), want);
    assert_eq!(garden.property(&handle, "a").await.expect("it is set"), "3");
    let found = |found: Vec<crate::ContainerInfo>| -> Vec<Handle> {
        found.into_iter().map(|one| one.handle).collect()
    };
    let with = garden.containers_with(&want).await.expect("they are listed");
    assert_eq!(found(with), vec![handle.clone()]);
    let other = Properties::from([("a".into(), "1".into()), ("b".into(), mark)]);
    assert!(garden.containers_with(&other).await.expect("they are listed").is_empty());
    let all = found(garden.containers_with(&Properties::new()).await.expect("they are listed"));
    assert!(all.contains(&handle) && all.contains(&stranger), "no wish leaves none out");

    garden.remove_property(&handle, "b").await.expect("a property can be removed");
    for gone in [
        garden.remove_property(&handle, "b").await.err(),
        garden.property(&handle, "b").await.err(),
    ] {
        assert!(
            matches!(&gone, Some(GardenError::UnknownProperty(key, _)) if key == "b"),
            "{gone:?}"
        );
    }
    let kept = garden.snapshot(&handle).await.expect("it is kept");
    assert_eq!(kept.spec.properties, Properties::from([("a".into(), "3".into())]));
    assert_eq!(kept.info, garden.info(&handle).await.expect("it is there"));
    gone(garden, &handle).await;
    gone(garden, &stranger).await;
}

pub(super) async fn limits(garden: &dyn Garden, fixture: &Fixture) {
    let first = Limits { memory_bytes: 64 << 20, disk_bytes: 64 << 20, cpu_shares: 100, pids: 50 };
    let spec = ContainerSpec { limits: first, ..fixture.spec() };
    let handle = garden.create(spec).await.expect("a container can be made").handle;
    assert_eq!(garden.limits(&handle).await.expect("they are known"), first);
    let roomier = Limits { memory_bytes: 128 << 20, cpu_shares: 512, pids: 80, ..first };
    let larger = Limits { disk_bytes: 128 << 20, ..roomier };
    for wanted in [roomier, larger, Limits::default(), first] {
        let before = garden.limits(&handle).await.expect("they are known");
        match garden.set_limits(&handle, wanted).await {
            Ok(()) => {
                assert_eq!(garden.limits(&handle).await.expect("they are known"), wanted);
                let kept = garden.snapshot(&handle).await.expect("it is kept");
                assert_eq!(kept.spec.limits, wanted);
            }
            Err(GardenError::Unsupported(_)) => {
                assert_ne!(before.disk_bytes, wanted.disk_bytes, "only that may be fixed");
                assert_eq!(garden.limits(&handle).await.expect("they are known"), before);
            }
            Err(error) => panic!("{error}"),
        }
    }
    gone(garden, &handle).await;
}

pub(super) async fn ports(garden: &dyn Garden, fixture: &Fixture) {
    let spec = ContainerSpec { ports: vec![8080], ..fixture.spec() };
    let info = garden.create(spec).await.expect("a container can be made");
    let other = made(garden, fixture).await;
    let chosen = garden.net_in(&info.handle, 9000, None).await.expect("a port can be mapped");
    assert_eq!(chosen.asked_port, 9000);
    assert_ne!(chosen.host_port, info.ports[0].host_port);
    let taken = garden.net_in(&other, 9000, Some(chosen.host_port)).await;
    assert!(
        matches!(taken, Err(GardenError::PortTaken(port)) if port == chosen.host_port),
        "{taken:?}"
    );
    // One that was free a moment ago, and still is unless somebody else on this host was quicker.
    let extra = garden.net_in(&other, 9001, None).await.expect("a port can be mapped");
    gone(garden, &other).await;
    match garden.net_in(&info.handle, 9002, Some(extra.host_port)).await {
        Ok(given) => {
            assert_eq!((given.asked_port, given.host_port), (9002, extra.host_port));
            let now = garden.info(&info.handle).await.expect("it is there").ports;
            assert_eq!(now, [info.ports[0], chosen, given]);
            assert_eq!(garden.snapshot(&info.handle).await.expect("it is kept").info.ports, now);
        }
        Err(error) => assert!(matches!(error, GardenError::PortTaken(_)), "{error}"),
    }
    gone(garden, &info.handle).await;
}

pub(super) async fn egress(garden: &dyn Garden, fixture: &Fixture) {
    let rule = |destination: &str| EgressRule {
        protocol: Protocol::Tcp,
        destinations: vec![destination.into()],
        ports: vec![80],
        port_range: None,
        icmp_type: None,
        icmp_code: None,
        log: false,
    };
    let spec = ContainerSpec { egress: vec![rule("203.0.113.1")], ..fixture.spec() };
    let handle = garden.create(spec).await.expect("a container can be made").handle;
    garden.net_out(&handle, vec![rule("203.0.113.2")]).await.expect("more can be allowed");
    let want = vec![rule("203.0.113.1"), rule("203.0.113.2")];
    let rules = garden.snapshot(&handle).await.expect("it is kept").spec.egress;
    assert_eq!(rules, want);
    for bad in ["nowhere", "2001:db8::1", "203.0.113.0/33"] {
        let refused = garden.net_out(&handle, vec![rule("203.0.113.3"), rule(bad)]).await;
        assert!(matches!(refused, Err(GardenError::BadEgress(_))), "{bad}: {refused:?}");
        let spec = ContainerSpec { egress: vec![rule(bad)], ..fixture.spec() };
        let refused = garden.create(spec).await;
        assert!(matches!(refused, Err(GardenError::BadEgress(_))), "{bad}: {refused:?}");
    }
    assert_eq!(garden.snapshot(&handle).await.expect("it is kept").spec.egress, want);
    gone(garden, &handle).await;
}

pub(super) async fn grace_time(garden: &dyn Garden, fixture: &Fixture) {
    const GRACE: Duration = Duration::from_millis(300);
    let brief = || ContainerSpec { grace_time: Some(GRACE), ..fixture.spec() };
    let lasting = made(garden, fixture).await;
    let left_alone = garden.create(brief()).await.expect("a container can be made").handle;
    let followed = garden.create(brief()).await.expect("a container can be made").handle;
    let mut process = garden.run(&followed, sh(&fixture.user, WAIT)).await.expect("a shell starts");
    ready(&mut process).await;
    let start = Instant::now();
    until_gone(garden, &left_alone).await;
    // Whoever reads its output keeps it, for however long.
    while start.elapsed() < GRACE * 4 {
        assert!(listed(garden, &followed).await, "a container that is followed stays");
        sleep(GRACE / 10).await;
    }
    drop(process);
    until_gone(garden, &followed).await;
    assert!(listed(garden, &lasting).await, "without a grace time it stays");

    garden.set_grace_time(&lasting, Some(GRACE)).await.expect("it can be given one");
    let kept = garden.snapshot(&lasting).await.expect("it is kept");
    assert_eq!(kept.spec.grace_time, Some(GRACE));
    let start = Instant::now();
    while start.elapsed() < GRACE * 4 {
        // On a slow machine even this may come too late; then it was right to go.
        let asked = Instant::now();
        if garden.info(&lasting).await.is_err() {
            assert!(asked.elapsed() + GRACE / 10 >= GRACE, "a container that is asked for stays");
            return;
        }
        sleep(GRACE / 10).await;
    }
    garden.set_grace_time(&lasting, None).await.expect("it can be taken away");
    sleep(GRACE * 2).await;
    gone(garden, &lasting).await;
}

async fn listed(garden: &dyn Garden, handle: &Handle) -> bool {
    let all = garden.containers().await.expect("they are listed");
    all.iter().any(|one| one.handle == *handle)
}

async fn until_gone(garden: &dyn Garden, handle: &Handle) {
    let waiting = async {
        while listed(garden, handle).await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("a container nobody asks for goes");
}
