//! Isolated containers keep the contract, and outlive the program that made them.

use std::path::PathBuf;
use std::process::Stdio;

use garden::contract::{self, outcome, sh};
use garden::{Exit, Garden, Handle, ProcessId, ProcessSignal, ProcessSpec};
use guardian::linux::LinuxGarden;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::bed::{Bed, config, is_root};

#[tokio::test(flavor = "multi_thread")]
async fn isolated_containers_keep_the_contract() {
    if !is_root() {
        return;
    }
    Bed::new()
        .run(|garden, fixture| async move { contract::everything(&*garden, &fixture).await })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_outlive_their_platform() {
    if !is_root() {
        return;
    }
    let bed = Bed::new();
    let garden = bed.open().await;
    let spec = garden::ContainerSpec { ports: vec![8080], ..bed.fixture.spec() };
    let info = garden.create(spec).await.unwrap();
    let (waits, ended) = (ProcessId::from("waits"), ProcessId::from("ended"));
    let run =
        |id: &ProcessId, script: &str| ProcessSpec { id: Some(id.clone()), ..sh("vcap", script) };
    let mut process = garden
        .run(
            &info.handle,
            run(&waits, "mkfifo /tmp/go; echo early; read -r x < /tmp/go; echo late $x; exit 5"),
        )
        .await
        .unwrap();
    let early = process.output.recv().await.unwrap();
    assert_eq!(&early.data[..], b"early\n");
    garden.run(&info.handle, run(&ended, "echo done; exit 3")).await.unwrap().wait().await.unwrap();
    garden.shutdown(false).await.unwrap();
    drop(garden);

    let garden = bed.open().await;
    let found = garden.info(&info.handle).await.unwrap();
    assert_eq!(
        (found.ports, found.container_ip, found.created_at),
        (info.ports, info.container_ip, info.created_at)
    );
    let mut again = garden.attach(&info.handle, &ended, 0).await.unwrap();
    assert_eq!(contract::text(&mut again).await, "done\n");
    assert_eq!(again.wait().await, Some(Exit::Status(3)));
    let mut process = garden.attach(&info.handle, &waits, early.end).await.unwrap();
    let (said, _) = outcome(&*garden, &info.handle, "vcap", "echo now > /tmp/go").await;
    assert_eq!(said, "");
    assert_eq!(contract::text(&mut process).await, "late now\n");
    assert_eq!(process.wait().await, Some(Exit::Status(5)));
    garden.shutdown(true).await.unwrap();
    bed.assert_nothing_left();
}

/// Killed as hard as can be in the middle of its work, with a container running and others being made.
#[tokio::test(flavor = "multi_thread")]
async fn containers_outlive_the_death_of_their_platform() {
    if !is_root() {
        return;
    }
    let bed = Bed::new();
    let mut platform = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "linux::as_a_platform_that_dies", "--nocapture"])
        .env("DIR", bed.dir.path())
        .env("PARENT", std::process::id().to_string())
        .env("NUMBER", bed.config.instance.rsplit('_').next().unwrap())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(platform.stdout.take().unwrap()).lines();
    while lines.next_line().await.unwrap().expect("it gets so far") != "running" {}
    platform.start_kill().unwrap();
    platform.wait().await.unwrap();

    let garden = bed.open().await;
    let containers = garden.containers().await.unwrap();
    let (handle, id) = (Handle::from("lasting"), ProcessId::from("ticking"));
    assert!(containers.iter().any(|one| one.handle == handle));
    let mut process = garden.attach(&handle, &id, 0).await.unwrap();
    let mut text = String::new();
    while !text.contains("tick 30\n") {
        let piece = process.output.recv().await.unwrap();
        assert_eq!(piece.lost, 0);
        text += std::str::from_utf8(&piece.data).unwrap();
    }
    let want: String = (1..=30).map(|number| format!("tick {number}\n")).collect();
    assert!(text.starts_with(&want), "{text}");
    garden.signal(&handle, &id, ProcessSignal::Kill).await.unwrap();
    assert_eq!(process.wait().await, Some(Exit::Signal(9)));
    garden.shutdown(true).await.unwrap();
    bed.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by containers_outlive_the_death_of_their_platform"]
async fn as_a_platform_that_dies() {
    let number = |name: &str| std::env::var(name).unwrap().parse::<u32>().unwrap();
    let dir = PathBuf::from(std::env::var_os("DIR").unwrap());
    let stack = garden::Rootfs {
        lower: dir.join("stack"),
        binds: vec![garden::BindMount {
            source: "/usr".into(),
            target: "/usr".into(),
            writable: false,
        }],
    };
    let garden = LinuxGarden::open(config(&dir, number("PARENT"), number("NUMBER"))).await.unwrap();
    let spec = |handle| garden::ContainerSpec {
        handle: Some(handle),
        rootfs: stack.clone(),
        ..Default::default()
    };
    let handle = garden.create(spec(Handle::from("lasting"))).await.unwrap().handle;
    let script = "i=0; while i=$((i + 1)); do echo tick $i; sleep 0.02; done";
    let ticking = ProcessSpec { id: Some("ticking".into()), ..sh("vcap", script) };
    let mut process = garden.run(&handle, ticking).await.unwrap();
    process.output.recv().await.unwrap();
    println!("running");
    loop {
        garden.create(spec(Handle::random())).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_death_of_a_keeper_is_seen_and_its_container_can_be_removed() {
    if !is_root() {
        return;
    }
    Bed::new()
        .run(|garden, fixture| async move {
            let handle = garden.create(fixture.spec()).await.unwrap().handle;
            let script = "echo $$ > /tmp/pid; echo ready; exec sleep 1000";
            let mut process = garden.run(&handle, sh("vcap", script)).await.unwrap();
            process.output.recv().await.unwrap();
            let keepers = std::fs::read_dir("/proc")
                .unwrap()
                .flatten()
                .filter_map(|one| one.file_name().to_str()?.parse::<i32>().ok());
            let name = garden.info(&handle).await.unwrap().container_ip.to_string();
            let is_ours = |pid: &i32| {
                let comm = std::fs::read_to_string(format!("/proc/{pid}/comm"));
                let hosts = std::fs::read_to_string(format!("/proc/{pid}/root/etc/hosts"))
                    .unwrap_or_default();
                comm.is_ok_and(|comm| comm == "shim\n")
                    && hosts.lines().any(|line| line.split(' ').next() == Some(&name))
            };
            let keeper = keepers.into_iter().find(is_ours).unwrap();
            rustix::process::kill_process(
                rustix::process::Pid::from_raw(keeper).unwrap(),
                rustix::process::Signal::KILL,
            )
            .unwrap();
            assert_eq!(process.wait().await, Some(Exit::Signal(9)));
            assert!(garden.run(&handle, sh("vcap", "true")).await.is_err());
            garden.destroy(&handle).await.unwrap();
            assert!(garden.containers().await.unwrap().is_empty());
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_counted() {
    if !is_root() {
        return;
    }
    let mut bed = Bed::new();
    bed.config.output_bytes = 1 << 20;
    bed.run(|garden, fixture| async move {
        let handle = garden.create(fixture.spec()).await.unwrap().handle;
        let script = "perl -e 'printf \"%07d\\n\", $_ for 1..500000'";
        let mut process = garden.run(&handle, sh("vcap", script)).await.unwrap();
        assert_eq!(process.wait().await, Some(Exit::Status(0)));
        let (mut got, mut lost, mut last) = (0, 0, String::new());
        while let Some(piece) = process.output.recv().await {
            got += piece.data.len() as u64;
            lost += piece.lost;
            last = String::from_utf8_lossy(&piece.data).into_owned();
            assert_eq!(got + lost, piece.end);
        }
        assert_eq!(got + lost, 8 * 500_000);
        assert!(lost > 2_000_000 && got >= 1 << 19, "{got} {lost}");
        assert!(last.ends_with("0499999\n0500000\n"));
    })
    .await;
}
