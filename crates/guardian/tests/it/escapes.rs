//! What user code may try, and what comes of it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use garden::contract::{Fixture, outcome};
use garden::{ContainerSpec, Exit, Garden, Handle, Limits};
use guardian::linux::LinuxGarden;

use crate::bed::{Bed, is_root};

/// A container, and what a script says in it.
struct Cage {
    garden: Arc<LinuxGarden>,
    handle: Handle,
}

impl Cage {
    async fn new(garden: &Arc<LinuxGarden>, fixture: &Fixture, limits: Limits) -> Cage {
        let spec = ContainerSpec { limits, ..fixture.spec() };
        Cage { garden: garden.clone(), handle: garden.create(spec).await.unwrap().handle }
    }

    async fn says(&self, user: &str, script: &str) -> String {
        outcome(&*self.garden, &self.handle, user, &format!("exec 2>&1; {script}")).await.0
    }

    async fn check(&self, user: &str, script: &str, want: &str) {
        let said = self.says(user, script).await;
        assert!(said.contains(want), "as {user}: {script}\nwant: {want}\nsaid: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_out() {
    if !is_root() {
        return;
    }
    Bed::new()
        .run(|garden, fixture| async move {
            let cage = Cage::new(&garden, &fixture, Limits::default()).await;
            let other = Cage::new(&garden, &fixture, Limits::default()).await;
            files(&cage).await;
            processes(&cage, &other).await;
            privileges(&cage).await;
            calls(&cage).await;
            ids(&cage).await;
        })
        .await;
}

async fn files(cage: &Cage) {
    let listed = cage.says("root", "ls -m /").await;
    assert_eq!(listed, "bin, dev, etc, home, lib, lib64, proc, root, sbin, sys, tmp, usr\n");
    for user in ["root", "vcap"] {
        cage.check(user, "touch /usr/mine", "Read-only file system").await;
        cage.check(user, "echo h > /proc/sysrq-trigger", "cannot create").await;
        cage.check(user, "echo x > /proc/sys/kernel/hostname", "Read-only file system").await;
        cage.check(
            user,
            "mkdir /sys/fs/cgroup/memory/mine /sys/fs/cgroup/mine",
            "Read-only file system",
        )
        .await;
        cage.check(user, "cat /proc/kcore | head -c 1 | wc -c; cat /proc/keys | wc -c", "0").await;
        cage.check(user, "ls -A /sys/firmware | wc -l", "0").await;
        cage.check(
            user,
            "grep -c /state /proc/self/mountinfo /proc/1/cmdline",
            "/proc/self/mountinfo:0\n/proc/1/cmdline:0",
        )
        .await;
        // Its own standard streams, and what the listing itself opens.
        cage.check(user, "ls -m /proc/self/fd", "0, 1, 2, 3\n").await;
    }
    cage.check(
        "vcap",
        "echo own > /dev/stdout; echo mine > /tmp/x && cat /tmp/x && touch ~/y && pwd",
        "own\nmine\n/home/vcap",
    )
    .await;
    cage.check("root", "perl -e 'mkdir \"/tmp/j\"; opendir my $d, \"/\"; chroot \"/tmp/j\"; chdir \"..\" for 1..99; chroot \".\"; print join \",\", sort glob \"*\"'", "bin,dev,etc").await;
}

async fn processes(cage: &Cage, other: &Cage) {
    cage.check("root", "set -- /proc/[0-9]*; echo $#", "2\n").await;
    for user in ["root", "vcap"] {
        for secret in ["root/", "cwd/", "fd/", "environ", "maps", "mem"] {
            cage.check(
                user,
                &format!("ls /proc/1/{secret} && cat /proc/1/{secret}"),
                "Permission denied",
            )
            .await;
        }
        cage.check(user, "kill -9 1; kill -TERM 1; sleep 0.1; echo alive", "alive").await;
    }
    let hidden = other.says("root", "sleep 1000 & set -- /proc/[0-9]*; echo $#").await;
    assert_eq!(hidden, "3\n");
    cage.check("root", "set -- /proc/[0-9]*; echo $#", "2\n").await;
    cage.check("root", "cat /proc/self/cgroup | sort | uniq | grep -c /$; grep -v '/$' /proc/self/cgroup | grep cupola | wc -l", "\n0\n").await;
}

async fn privileges(cage: &Cage) {
    for user in ["root", "vcap"] {
        cage.check(user, "mknod /tmp/disk b 254 0", "Operation not permitted").await;
        cage.check(user, "unshare -U true", "Operation not permitted").await;
        cage.check(user, "unshare -m true", "Operation not permitted").await;
        cage.check(user, "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1").await;
        cage.check(user, "grep Seccomp: /proc/self/status", "Seccomp:\t2").await;
        cage.check(
            user,
            "perl -MSocket -e 'socket(my $s, AF_INET, SOCK_RAW, 1) or print \"no: $!\"'",
            "no: Operation not permitted",
        )
        .await;
        cage.check(
            user,
            "perl -MSocket -e 'socket(my $s, 17, SOCK_RAW, 8) or print \"no: $!\"'",
            "no: Operation not permitted",
        )
        .await;
        cage.check(
            user,
            "perl -MSocket -e 'socket(my $s, 40, SOCK_STREAM, 0) or print \"no: $!\"'",
            "no: Operation not permitted",
        )
        .await;
        cage.check(user, "ip link set lo down", "Operation not permitted").await;
        cage.check(user, "ip addr add 10.1.2.3/32 dev eth0", "Operation not permitted").await;
        cage.check(user, "nice -n -5 true", "ermi").await;
        cage.check(user, "date -s 2000-01-01", "Operation not permitted").await;
    }
    cage.check("vcap", "grep CapEff /proc/self/status", "CapEff:\t0000000000000000").await;
    cage.check("root", "cp /bin/sh /tmp/sh && chmod 4755 /tmp/sh && echo made", "made").await;
    cage.check("vcap", "/tmp/sh -p -c 'id -u'", "2000").await;
}

async fn calls(cage: &Cage) {
    const NOT_PERMITTED: i32 = 1;
    const NO_SUCH_CALL: i32 = 38;
    for (number, want) in [
        (libc::SYS_keyctl, NOT_PERMITTED),
        (libc::SYS_mount, NOT_PERMITTED),
        (libc::SYS_umount2, NOT_PERMITTED),
        (libc::SYS_pivot_root, NOT_PERMITTED),
        (libc::SYS_sethostname, NOT_PERMITTED),
        (libc::SYS_bpf, NOT_PERMITTED),
        (libc::SYS_perf_event_open, NOT_PERMITTED),
        (libc::SYS_open_by_handle_at, NOT_PERMITTED),
        (libc::SYS_userfaultfd, NOT_PERMITTED),
        (libc::SYS_fsopen, NOT_PERMITTED),
        (libc::SYS_init_module, NOT_PERMITTED),
        (libc::SYS_kexec_load, NOT_PERMITTED),
        (libc::SYS_reboot, NOT_PERMITTED),
        (libc::SYS_setns, NOT_PERMITTED),
        (libc::SYS_clone3, NO_SUCH_CALL),
        (libc::SYS_io_uring_setup, NO_SUCH_CALL),
        (9999, NO_SUCH_CALL),
    ] {
        let script = format!("perl -e 'syscall({number}, 0, 0, 0, 0, 0); print $!+0, \".\"'");
        for user in ["root", "vcap"] {
            cage.check(user, &script, &format!("{want}.")).await;
        }
    }
}

/// What root makes inside is nobody's outside.
async fn ids(cage: &Cage) {
    assert_eq!(
        cage.says(
            "root",
            "touch /mine; id -u; stat -c '%u %g' / /etc /usr /home/vcap /tmp /mine | tr '\\n' ,"
        )
        .await,
        "0\n0 0,0 0,0 0,2000 2000,0 0,0 0,"
    );
    let info = cage.garden.info(&cage.handle).await.unwrap();
    assert_eq!(info.handle, cage.handle);
    let pids = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let keepers: Vec<_> = pids
        .filter(|pid| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "shim\n")
        })
        .collect();
    let owners: Vec<u32> = keepers
        .iter()
        .filter_map(|pid| fs::metadata(format!("/proc/{pid}/root/mine")).ok())
        .map(|about| about.uid())
        .collect();
    assert!(!owners.is_empty() && owners.iter().all(|owner| *owner >= 1_000_000), "{owners:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_more_than_given() {
    if !is_root() {
        return;
    }
    Bed::new()
        .run(|garden, fixture| async move {
            let limits =
                Limits { memory_bytes: 48 << 20, pids: 20, cpu_shares: 512, disk_bytes: 0 };
            let cage = Cage::new(&garden, &fixture, limits).await;
            let bomb = "perl -e '$x = \"x\" x (200 << 20); print \"alive\"'";
            let exec = format!("exec {bomb}");
            assert_eq!(
                outcome(&*garden, &cage.handle, "vcap", &exec).await,
                (String::new(), Exit::OutOfMemory(137))
            );
            let child = format!("{bomb} 2> /dev/null; exit $?");
            assert_eq!(
                outcome(&*garden, &cage.handle, "vcap", &child).await.1,
                Exit::OutOfMemory(137)
            );
            // A kill of another kind is told apart from it.
            assert_eq!(
                outcome(&*garden, &cage.handle, "vcap", "kill -9 $$").await.1,
                Exit::Signal(9)
            );

            let forks = "for i in $(seq 100); do sleep 1000 & done; echo no limit";
            let (said, exit) =
                outcome(&*garden, &cage.handle, "vcap", &format!("exec 2>&1; {forks}")).await;
            assert!(!exit.success() && said.contains("fork"), "{said} {exit:?}");
            let used = garden.metrics(&cage.handle).await.unwrap();
            assert!((10..=20).contains(&used.pids), "{used:?}");
            garden.stop(&cage.handle, true).await.unwrap();
            let used = garden.metrics(&cage.handle).await.unwrap();
            assert!(
                used.pids == 0 && used.memory_bytes < 48 << 20 && used.cpu_nanos > 0,
                "{used:?}"
            );
            let still = outcome(&*garden, &cage.handle, "vcap", "echo works").await;
            assert_eq!(still, ("works\n".into(), Exit::Status(0)));
        })
        .await;
}
