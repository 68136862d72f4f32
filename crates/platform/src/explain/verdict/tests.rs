//! The situations an app can be in, each with the sentence it gets.

use std::net::Ipv4Addr;

use diego::{InstanceKey, NetInfo};
use expect_test::{Expect, expect};

use super::*;
use crate::explain::facts::*;

const NOW: Timestamp = Timestamp::from_secs(10_000);

fn before(seconds: i64) -> Timestamp {
    Timestamp::from_secs(10_000 - seconds)
}

fn key() -> InstanceKey {
    InstanceKey { instance_guid: "i".into(), cell_id: "cell-0".into() }
}

fn running(routable: bool) -> State {
    let [address, instance_address] = [Ipv4Addr::LOCALHOST; 2];
    State::Running {
        by: key(),
        net: NetInfo { address, instance_address, ports: vec![] },
        routable,
    }
}

fn instance(index: u32, state: State) -> Instance {
    Instance { index, state, since: before(60), crash_count: 0, crash_reason: String::new() }
}

fn crashed(count: u32, reason: &str) -> Instance {
    Instance { crash_count: count, crash_reason: reason.into(), ..instance(0, State::Crashed) }
}

/// Two instances that answer.
fn well() -> Facts {
    let health = Health {
        kind: "port".into(),
        timeout_s: None,
        endpoint: None,
        readiness: "process".into(),
    };
    let web = Process {
        kind: "web".into(),
        lrp_guid: "p-v".into(),
        command: Some("python app.py".into()),
        instances: 2,
        memory_mb: 64,
        health,
        desired: Some(2),
        actual: vec![instance(0, running(true)), instance(1, running(true))],
    };
    Facts {
        now: NOW,
        name: "shop".into(),
        app: Some(App {
            guid: "a".into(),
            org: "acme".into(),
            space: "dev".into(),
            started: true,
            org_suspended: false,
        }),
        package: Some(Package { state: "READY".into(), at: before(120), error: None }),
        build: Some(Build { state: "STAGED".into(), at: before(100), ..Build::default() }),
        droplet: Some(before(90)),
        processes: vec![web],
        routes: vec![Route {
            url: "shop.localhost".into(),
            process: "web".into(),
            port: 8080,
            endpoints: 2,
        }],
        cells: 1,
        ..Facts::default()
    }
}

#[track_caller]
fn check(change: impl FnOnce(&mut Facts), want: Expect) {
    let mut facts = well();
    change(&mut facts);
    let said = explain(&facts);
    let next = said.next.map_or(String::new(), |next| format!("> {next}\n"));
    let end = if said.well { "well" } else { "not well" };
    want.assert_eq(&format!("{}\n{next}{end}\n", said.verdict));
}

/// Nothing was staged yet.
fn fresh(facts: &mut Facts) {
    facts.droplet = None;
    facts.build = None;
    facts.routes.clear();
    facts.processes[0].desired = None;
    facts.processes[0].actual.clear();
}

fn failed(error: &str) -> Option<Build> {
    Some(Build {
        state: "FAILED".into(),
        at: before(10),
        error: Some(error.into()),
        waits_for: None,
    })
}

#[test]
fn never_pushed() {
    check(
        |facts| facts.app = None,
        expect![[r#"
        there is no app named shop: it was never pushed
        > push it: cf push shop
        not well
    "#]],
    );
    check(
        |facts| {
            facts.app = None;
            facts.candidates = vec!["shop-2".into(), "ship".into()];
        },
        expect![[r#"
            there is no app named shop; did you mean shop-2 or ship?
            > push it: cf push shop
            not well
        "#]],
    );
    check(
        |facts| {
            facts.app = None;
            facts.candidates = vec!["acme/dev/shop".into(), "acme/test/shop".into()];
        },
        expect![[r#"
            there are several apps named shop: acme/dev/shop, acme/test/shop
            > say which: cupola explain shop --org ORG --space SPACE
            not well
        "#]],
    );
    check(
        |facts| {
            fresh(facts);
            facts.package = None;
        },
        expect![[r#"
            shop was created, but nothing was pushed to it
            > push its files: cf push shop
            not well
        "#]],
    );
}

#[test]
fn files_that_did_not_arrive() {
    for (state, want) in [
        (
            "AWAITING_UPLOAD",
            expect![[r#"
            the upload of shop's files did not come to its end
            > push again: cf push shop
            not well
        "#]],
        ),
        (
            "PROCESSING_UPLOAD",
            expect![[r#"
            shop's files are being taken in
            > ask again in a moment
            not well
        "#]],
        ),
        (
            "FAILED",
            expect![[r#"
            shop's files could not be taken in: not a zip
            > push again: cf push shop
            not well
        "#]],
        ),
        (
            "READY",
            expect![[r#"
            shop was pushed but never staged
            > stage it: cf restage shop
            not well
        "#]],
        ),
    ] {
        check(
            |facts| {
                fresh(facts);
                let error = (state == "FAILED").then(|| "not a zip".to_owned());
                facts.package = Some(Package { state: state.into(), at: before(5), error });
            },
            want,
        );
    }
}

#[test]
fn staging_and_staging_failed() {
    let staging = |waits: Option<&str>| {
        Some(Build {
            state: "STAGING".into(),
            at: before(7),
            error: None,
            waits_for: waits.map(str::to_owned),
        })
    };
    for (build, want) in [
        (
            staging(None),
            expect![[r#"
                shop is being staged, for 7 s now
                > wait for it; watch it: cf logs shop
                not well
            "#]],
        ),
        (
            staging(Some("insufficient resources: memory")),
            expect![[r#"
            shop waits to be staged, for no cell takes the task: insufficient resources: memory
            > make room (stop other apps), or ask for less: cf push shop -m 256M
            not well
        "#]],
        ),
        (
            failed(
                "NoAppDetectedError - An app was not successfully detected by any available buildpack",
            ),
            expect![[r#"
                staging shop failed: NoAppDetectedError - An app was not successfully detected by any available buildpack
                > push the folder that holds the app (cf push -p FOLDER), add the file its buildpack looks for (package.json, requirements.txt, …), or name the buildpack: cf push -b NAME; cf buildpacks lists them
                not well
            "#]],
        ),
        (
            failed("BuildpackCompileFailed - App staging failed in the buildpack compile phase"),
            expect![[r#"
                staging shop failed: BuildpackCompileFailed - App staging failed in the buildpack compile phase
                > the buildpack's own words are in the log: cf logs shop --recent
                not well
            "#]],
        ),
        (
            failed("StagingTimeExpired - Staging time expired"),
            expect![[r#"
            staging shop failed: StagingTimeExpired - Staging time expired
            > see the log (cf logs shop --recent), then stage again: cf restage shop
            not well
        "#]],
        ),
    ] {
        check(
            |facts| {
                fresh(facts);
                facts.build = build;
            },
            want,
        );
    }
}

/// As it is after `cf stop`.
fn stop(facts: &mut Facts) {
    facts.app.as_mut().unwrap().started = false;
    facts.processes[0].desired = None;
    facts.processes[0].actual.clear();
    facts.routes[0].endpoints = 0;
}

#[test]
fn stopped() {
    check(
        stop,
        expect![[r#"
        shop is stopped
        > start it: cf start shop
        not well
    "#]],
    );
    check(
        |facts| {
            stop(facts);
            facts.build = failed("NoAppDetectedError - An app was not detected");
        },
        expect![[r#"
            shop is stopped, and its last push did not get through staging: NoAppDetectedError - An app was not detected
            > push the folder that holds the app (cf push -p FOLDER), add the file its buildpack looks for (package.json, requirements.txt, …), or name the buildpack: cf push -b NAME; cf buildpacks lists them
            not well
        "#]],
    );
    check(
        |facts| {
            stop(facts);
            facts.app.as_mut().unwrap().org_suspended = true;
        },
        expect![[r#"
            shop is stopped and its org acme is suspended
            > an administrator can end that: cf curl -X PATCH /v3/organizations/GUID -d '{"suspended":false}' for the org acme
            not well
        "#]],
    );
}

#[test]
fn a_quota_that_staging_does_not_fit_into() {
    check(
        |facts| {
            fresh(facts);
            facts.quotas = vec![Quota {
                of: "org acme".into(),
                name: "small".into(),
                what: "MB of memory",
                limit: 1024,
                used: 1000,
                needed: 2048,
            }];
        },
        expect![[r#"
            shop was pushed but not staged: the quota small of the org acme allows 1024 MB of memory, 1000 are used and it needs 2048
            > make it smaller (cf scale shop), stop others, or raise the quota: cf update-org-quota small -m MEMORY
            not well
        "#]],
    );
}

#[test]
fn a_quota_in_the_way() {
    check(
        |facts| {
            stop(facts);
            facts.quotas = vec![
                Quota {
                    of: "org acme".into(),
                    name: "small".into(),
                    what: "MB of memory",
                    limit: 1024,
                    used: 1000,
                    needed: 128,
                },
                Quota {
                    of: "space dev".into(),
                    name: "tiny".into(),
                    what: "instances",
                    limit: 10,
                    used: 1,
                    needed: 2,
                },
            ];
        },
        expect![[r#"
            shop is stopped and cannot be started: the quota small of the org acme allows 1024 MB of memory, 1000 are used and it needs 128
            > make it smaller (cf scale shop), stop others, or raise the quota: cf update-org-quota small -m MEMORY
            not well
        "#]],
    );
}

#[test]
fn no_instances_desired() {
    check(
        |facts| {
            facts.processes[0].instances = 0;
            facts.processes[0].actual.clear();
        },
        expect![[r#"
            shop is started, but no instance of it is asked for
            > ask for one: cf scale shop -i 1
            not well
        "#]],
    );
}

#[test]
fn not_told_yet() {
    check(
        |facts| facts.processes[0].desired = None,
        expect![[r#"
        2 web instances of shop are asked for, and the BBS knows nothing of it yet
        > this takes a moment; if it stays so for a minute, see cupola status
        not well
    "#]],
    );
    check(
        |facts| facts.processes[0].desired = Some(1),
        expect![[r#"
        2 web instances of shop are asked for, and the BBS knows of 1 instance yet
        > this takes a moment; if it stays so for a minute, see cupola status
        not well
    "#]],
    );
    check(
        |facts| {
            facts.processes[0].actual.pop();
        },
        expect![[r#"
            1 instance of shop waits to be placed
            > ask again in a moment
            not well
        "#]],
    );
}

#[test]
fn no_cell_with_room() {
    let full = |error: &str| State::Unclaimed { placement_error: error.into() };
    check(
        |facts| {
            facts.processes[0].actual[1].state = full(
                "insufficient resources: memory (1 of 1 cell lacks memory: needed 64 MB, most free 10 MB)",
            )
        },
        expect![[r#"
            web instance 1 of shop (1 of 2 run) waits, for no cell can take it: insufficient resources: memory (1 of 1 cell lacks memory: needed 64 MB, most free 10 MB)
            > ask for less than 64 MB (cf scale shop -m MEMORY), stop other apps, or let the platform use more (--memory-mb); cupola status tells what is left
            not well
        "#]],
    );
    check(
        |facts| {
            facts.cells = 0;
            facts.processes[0].actual =
                vec![instance(0, full("unable to communicate to compatible cells"))];
        },
        expect![[r#"
            web instance 0 of shop waits, for there is no cell to run it
            > see cupola status
            not well
        "#]],
    );
    check(
        |facts| {
            facts.processes[0].actual =
                vec![instance(0, full("found no compatible cell for required rootfs"))]
        },
        expect![[r#"
            web instance 0 of shop waits, for no cell can take it: found no compatible cell for required rootfs
            > push it for a stack that a cell has (cf stacks): cf push shop -s STACK
            not well
        "#]],
    );
}

#[test]
fn starting() {
    check(
        |facts| facts.processes[0].actual[0].state = State::Claimed { by: key() },
        expect![[r#"
            web instance 0 of shop (1 of 2 run) is starting, for 1 min now
            > wait for it; watch it: cf logs shop
            not well
        "#]],
    );
}

#[test]
fn crashing() {
    for (count, reason, want) in [
        (
            1,
            "APP/PROC/WEB: Exited with status 1",
            expect![[r#"
                web instance 0 of shop crashed once: it ends with status 1; it is restarted at once
                > its log says why: cf logs shop --recent
                not well
            "#]],
        ),
        (
            5,
            "APP/PROC/WEB: Exited with status 127",
            expect![[r#"
                web instance 0 of shop crashed 5 times in a row: its start command was not found: python app.py; it is restarted in 1 min
                > give it one that is in the app or in the stack: cf push shop -c COMMAND
                not well
            "#]],
        ),
        (
            4,
            "APP/PROC/WEB: Exited with status 137 (out of memory)",
            expect![[r#"
            web instance 0 of shop crashed 4 times in a row: it used more than its 64 MB of memory; it is about to be restarted
            > give it more: cf scale shop -m 128M
            not well
        "#]],
        ),
        (
            3,
            "APP/PROC/WEB: Exited with status 0",
            expect![[r#"
            web instance 0 of shop crashed 3 times in a row: it ended by itself, and a process of an app has to go on running; it is about to be restarted
            > run what ends as a task: cf run-task shop --command COMMAND
            not well
        "#]],
        ),
        (
            200,
            "",
            expect![[r#"
            web instance 0 of shop crashed 200 times in a row: it crashed; it is not restarted any more
            > its log says more: cf logs shop --recent
            not well
        "#]],
        ),
        (
            3,
            "Instance became unhealthy: Liveness check unsuccessful: failed to make TCP connection",
            expect![[r#"
                web instance 0 of shop crashed 3 times in a row: it stopped answering its health check; it is about to be restarted
                > see what it was busy with: cf logs shop --recent
                not well
            "#]],
        ),
    ] {
        check(|facts| facts.processes[0].actual = vec![crashed(count, reason)], want);
    }
    // Between two attempts it is starting, and still the same trouble.
    check(
        |facts| {
            facts.processes[0].actual = vec![Instance {
                state: State::Claimed { by: key() },
                ..crashed(2, "APP/PROC/WEB: Exited with status 1")
            }];
        },
        expect![[r#"
            web instance 0 of shop crashed 2 times in a row: it ends with status 1
            > its log says why: cf logs shop --recent
            not well
        "#]],
    );
}

#[test]
fn wrong_port_and_failing_health_check() {
    let reason = "Instance never healthy after 60s: Timed out after 1m0s (9 attempts) waiting for startup check to succeed";
    check(
        |facts| facts.processes[0].actual = vec![crashed(3, reason)],
        expect![[r#"
        web instance 0 of shop crashed 3 times in a row: it did not listen on its port within 60 s; it is about to be restarted
        > let it listen on 0.0.0.0 and the port in $PORT; give a slow one more time (cf push shop -t SECONDS); for one that serves no port: cf set-health-check shop process
        not well
    "#]],
    );
    check(
        |facts| {
            facts.processes[0].actual = vec![crashed(3, reason)];
            let health = &mut facts.processes[0].health;
            (health.kind, health.endpoint, health.timeout_s) =
                ("http".into(), Some("/up".into()), Some(10));
        },
        expect![[r#"
            web instance 0 of shop crashed 3 times in a row: it did not answer GET /up with 200 within 10 s; it is about to be restarted
            > let it answer there on $PORT, or check otherwise: cf set-health-check shop http --endpoint PATH, or cf set-health-check shop port
            not well
        "#]],
    );
}

#[test]
fn running_but_not_ready() {
    check(
        |facts| {
            facts.processes[0].health.readiness = "http".into();
            facts.processes[0].actual[0].state = running(false);
        },
        expect![[r#"
            web instance 0 of shop runs but does not pass its readiness check (http), so it gets no requests
            > see what the check says: cf logs shop --recent
            not well
        "#]],
    );
}

#[test]
fn running_without_a_route() {
    check(
        |facts| facts.routes.clear(),
        expect![[r#"
        shop runs, but no route leads to it
        > map one: cf map-route shop DOMAIN --hostname shop; cf domains lists the domains
        not well
    "#]],
    );
    // A worker needs none.
    check(
        |facts| {
            facts.routes.clear();
            facts.processes[0].kind = "worker".into();
        },
        expect![[r#"
            shop runs: 2 instances, without a route
            well
        "#]],
    );
}

#[test]
fn the_route_leads_elsewhere() {
    let taken = |by: &[&str]| TakenRoute {
        url: "shop.localhost".into(),
        by: by.iter().map(|name| (*name).to_owned()).collect(),
        space: "acme/test".into(),
    };
    check(
        |facts| {
            facts.routes.clear();
            facts.taken_route = Some(taken(&["shop-old"]));
        },
        expect![[r#"
            shop runs, but no route leads to it: shop.localhost leads to shop-old in the space acme/test
            > map another one: cf map-route shop DOMAIN --hostname ANOTHER-NAME
            not well
        "#]],
    );
    check(
        |facts| {
            facts.routes.clear();
            facts.taken_route = Some(TakenRoute { space: "acme/dev".into(), ..taken(&[]) });
        },
        expect![[r#"
            shop runs, but no route leads to it; shop.localhost is there and leads nowhere
            > map it: cf map-route shop localhost --hostname shop
            not well
        "#]],
    );
    check(
        |facts| {
            facts.routes.clear();
            facts.taken_route = Some(taken(&[]));
        },
        expect![[r#"
            shop runs, but no route leads to it; shop.localhost is reserved in the space acme/test
            > map another one: cf map-route shop DOMAIN --hostname ANOTHER-NAME
            not well
        "#]],
    );
}

#[test]
fn a_route_with_nobody_behind_it() {
    check(
        |facts| facts.routes[0].endpoints = 0,
        expect![[r#"
        shop runs, but the router knows no instance behind shop.localhost (port 8080)
        > a new route takes a moment, one to another port needs a restart: cf restart shop; if it stays so, see cupola status
        not well
    "#]],
    );
    check(
        |facts| {
            facts.routes[0].endpoints = 0;
            facts.routes[0].process = "api".into();
        },
        expect![[r#"
            shop runs, but its route shop.localhost leads to the process api, which has no instances
            > cf scale shop --process api -i 1
            not well
        "#]],
    );
}

#[test]
fn all_is_well() {
    check(
        |_| {},
        expect![[r#"
            shop runs: 2 instances, at shop.localhost
            well
        "#]],
    );
    check(
        |facts| {
            facts.processes[0].actual[1].crash_count = 2;
            facts.processes[0].actual[1].crash_reason = "APP/PROC/WEB: Exited with status 1".into();
        },
        expect![[r#"
            shop runs: 2 instances, at shop.localhost; instance 1 crashed before (APP/PROC/WEB: Exited with status 1)
            > if it keeps crashing, its log says why: cf logs shop --recent
            well
        "#]],
    );
    check(
        |facts| facts.build = failed("NoAppDetectedError - none"),
        expect![[r#"
            shop runs as before its last push: 2 instances, at shop.localhost; that push did not get through staging: NoAppDetectedError - none
            > push the folder that holds the app (cf push -p FOLDER), add the file its buildpack looks for (package.json, requirements.txt, …), or name the buildpack: cf push -b NAME; cf buildpacks lists them
            well
        "#]],
    );
}

#[test]
fn the_chain_tells_everything_in_order() {
    let mut facts = well();
    facts.processes[0].actual[1] =
        Instance { index: 1, ..crashed(3, "APP/PROC/WEB: Exited with status 1") };
    facts.routes[0].endpoints = 1;
    facts.deployment = Some(Deployment {
        strategy: "rolling".into(),
        status: "DEPLOYING".into(),
        since: before(3),
    });
    let lines: Vec<String> = explain(&facts)
        .chain
        .iter()
        .map(|fact| format!("{:?} {}: {}\n", fact.mark, fact.of, fact.text))
        .collect();
    expect![[r#"
        Fine app: shop in org acme, space dev: started
        Fine package: READY, 2 min ago
        Fine build: STAGED, 1 min 40 s ago
        Fine droplet: made 1 min 30 s ago
        Waits deployment: DEPLOYING (rolling), for 3 s now
        Fine web: 2 instances with 64 MB desired, checked by its port; command: python app.py
        Fine bbs: wants 2 instances
        Fine instance 0: runs on cell-0 for 1 min
        Wrong instance 1: crashed 1 min ago: APP/PROC/WEB: Exited with status 1; it is about to be restarted (3 crashes in a row)
        Fine route: shop.localhost -> web, port 8080: 1 instance in the router's table
    "#]].assert_eq(&lines.concat());
}
