//! Plain processes keep the contract too; an ordinary user gets namespaces where the host allows it.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use garden::contract::{self, Fixture, outcome};
use garden::{Exit, Garden};
use guardian::process::{Config, ProcessGarden};

use crate::bed::{is_root, rootfs};

async fn with(plain: bool, test: impl AsyncFnOnce(Arc<ProcessGarden>, Fixture)) {
    let dir = tempfile::tempdir().unwrap();
    let fixture = rootfs(&dir.path().join("stack"));
    let config = Config { plain, ..Config::new(dir.path().join("state")) };
    let garden = Arc::new(ProcessGarden::open(config).await.unwrap());
    test(garden.clone(), fixture).await;
    garden.shutdown(true).await.unwrap();
    let left = std::fs::read_dir(dir.path().join("state/c")).unwrap().count();
    assert_eq!(left, 0, "folders are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_processes_keep_the_contract() {
    with(true, async |garden, fixture| {
        assert!(garden.isolation().starts_with("none"));
        contract::everything(&*garden, &fixture).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_processes_find_their_own_files() {
    with(true, async |garden, fixture| {
        let layer = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(layer.path().join("home/vcap/app")).unwrap();
        std::fs::write(layer.path().join("home/vcap/app/greeting"), "hello\n").unwrap();
        let spec = garden::ContainerSpec { layers: vec![layer.path().into()], ports: vec![8080], ..fixture.spec() };
        let info = garden.create(spec).await.unwrap();
        assert_ne!(info.ports[0].container_port, 8080);
        let look = "cat /home/vcap/app/greeting; echo mine > /home/vcap/app/greeting; cd /home/vcap/app && cat greeting";
        assert_eq!(outcome(&*garden, &info.handle, "vcap", look).await, ("hello\nmine\n".into(), Exit::Status(0)));
        assert_eq!(std::fs::read_to_string(layer.path().join("home/vcap/app/greeting")).unwrap(), "hello\n");
        let used = garden.metrics(&info.handle).await.unwrap();
        assert!(used.disk_bytes > 0 && used.pids == 0, "{used:?}");
    })
    .await;
}

/// The rest of this file again, as a user who is nobody.
#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_user_gets_namespaces() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let program = dir.path().join("it");
    // By another program: one started elsewhere in this test at the same time would hold it open for writing.
    let copied = std::process::Command::new("cp")
        .arg(std::env::current_exe().unwrap())
        .arg(&program)
        .status()
        .unwrap();
    assert!(copied.success());
    let mut command = tokio::process::Command::new("setpriv");
    command.args(["--reuid=31337", "--regid=31337", "--clear-groups"]).arg(&program);
    command
        .args(["--ignored", "--exact", "process::as_an_ordinary_user"])
        .env("TMPDIR", dir.path())
        .kill_on_drop(true);
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by an_ordinary_user_gets_namespaces"]
async fn as_an_ordinary_user() {
    with(false, async |garden, fixture| {
        assert!(garden.isolation().starts_with("own files"), "{}", garden.isolation());
        contract::everything(&*garden, &fixture).await;
        let handle = garden.create(fixture.spec()).await.unwrap().handle;
        let look = "id -u; ls /; ls /proc | grep -c '^[0-9]*$'; test -e /root/.cargo && echo host; touch /usr/x 2>&1 | tail -c 22";
        let (said, _) = outcome(&*garden, &handle, "vcap", look).await;
        assert!(said.starts_with("2000\nbin\n"), "{said}");
        assert!(!said.contains("host\n") && said.ends_with("Read-only file system\n"), "{said}");
    })
    .await;
}
