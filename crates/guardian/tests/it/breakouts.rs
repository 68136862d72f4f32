//! Ways out that need more than a shell: archives, sockets, terminals, debuggers, descriptors.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use garden::contract::{Fixture, outcome, sh, text};
use garden::{EgressRule, Exit, Garden, Handle, Limits, ProcessSpec, Protocol, Tar, WindowSize};
use guardian::linux::LinuxGarden;
use tokio::io::AsyncReadExt;

use crate::bed::{Bed, is_root};

async fn made(garden: &LinuxGarden, fixture: &Fixture) -> Handle {
    garden.create(fixture.spec()).await.unwrap().handle
}

async fn says(garden: &LinuxGarden, handle: &Handle, user: &str, script: &str) -> String {
    outcome(garden, handle, user, &format!("exec 2>&1; {script}")).await.0
}

/// One entry as it stands, whatever it may lead to: the usual writers refuse to write such names.
fn entry(name: &str, kind: tar::EntryType, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o4755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn archive(entries: &[Vec<u8>]) -> Tar {
    let mut bytes = entries.concat();
    bytes.extend_from_slice(&[0; 1024]);
    Box::pin(std::io::Cursor::new(bytes))
}

async fn whole(mut tar: Tar) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What ends early is as much as there is.
    let _ = tar.read_to_end(&mut bytes).await;
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_lead_nowhere_else() {
    if !is_root() {
        return;
    }
    let bed = Bed::new();
    let outside = bed.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "of the host").unwrap();
    let (state, outside_text) =
        (bed.config.state_dir.clone(), outside.to_str().unwrap().to_owned());
    bed.run(|garden, fixture| async move {
        let handle = made(&garden, &fixture).await;
        let deep = format!("{}{}/evil", "../".repeat(30), &outside_text[1..]);
        let file = tar::EntryType::Regular;
        let tries = [
            vec![entry(&deep, file, "", b"evil")],
            vec![entry(&format!("{outside_text}/evil"), file, "", b"evil")],
            vec![
                entry("out", tar::EntryType::Symlink, &outside_text, b""),
                entry("out/evil", file, "", b"evil"),
            ],
            vec![
                entry("up", tar::EntryType::Symlink, &"../".repeat(30), b""),
                entry(&format!("up{outside_text}/evil"), file, "", b"evil"),
            ],
            vec![entry("hard", tar::EntryType::Link, &format!("{outside_text}/secret"), b"")],
            vec![entry("device", tar::EntryType::Block, "", b"")],
        ];
        for user in ["vcap", "root"] {
            for (number, entries) in tries.iter().enumerate() {
                // Refused or unpacked inside: either is well.
                let _ = garden
                    .stream_in(&handle, &format!("/tmp/{user}{number}"), user, archive(entries))
                    .await;
                let left: Vec<_> = std::fs::read_dir(&outside)
                    .unwrap()
                    .flatten()
                    .map(|one| one.file_name())
                    .collect();
                assert_eq!(left, ["secret"], "as {user}, archive {number}");
            }
            let found = says(&garden, &handle, user, "cat /tmp/*/hard; find /tmp -type b").await;
            assert!(!found.contains("of the host") && !found.contains("/device"), "{found}");
        }
        // A folder that a process has replaced by a link just before leads to the container's own.
        says(
            &garden,
            &handle,
            "vcap",
            &format!("ln -s {outside_text} /tmp/there; ln -s / /tmp/root"),
        )
        .await;
        let _ = garden
            .stream_in(&handle, "/tmp/there", "vcap", archive(&[entry("evil", file, "", b"evil")]))
            .await;
        assert!(!outside.join("evil").exists());
        for path in [
            "/tmp/there/secret",
            &format!("{outside_text}/secret"),
            "/proc/1/root/etc/shadow",
            "/proc/1/cwd/secret",
        ] {
            let got = match garden.stream_out(&handle, path, "root").await {
                Ok(tar) => whole(tar).await,
                Err(_) => Vec::new(),
            };
            assert!(!String::from_utf8_lossy(&got).contains("of the host"), "{path}");
            assert!(got.len() < 512 || !path.contains("/proc/1"), "{path}");
        }
        // Set-user-id bits in archives give nobody anything.
        let shell = std::fs::read("/bin/sh").unwrap();
        garden
            .stream_in(&handle, "/tmp/suid", "vcap", archive(&[entry("sh", file, "", &shell)]))
            .await
            .unwrap();
        assert_eq!(says(&garden, &handle, "vcap", "/tmp/suid/sh -p -c 'id -u'").await, "2000\n");
        assert!(std::fs::read_dir(state.join("c")).unwrap().count() > 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_sockets_are_out_of_reach() {
    if !is_root() {
        return;
    }
    let name = format!("cupola-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let abstract_socket = UnixListener::bind_addr(&address).unwrap();
    std::thread::spawn(move || {
        for stream in abstract_socket.incoming().flatten() {
            let mut stream = stream;
            // Whoever hears it has got out.
            let _ = stream.write_all(b"of the host");
        }
    });
    let internal = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = internal.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in internal.incoming().flatten() {
            let mut stream = stream;
            let _ = stream.write_all(b"of the host");
        }
    });
    let bed = Bed::new();
    let gateway = bed.config.network.gateway();
    bed.run(move |garden, fixture| async move {
        let all = EgressRule {
            protocol: Protocol::All,
            destinations: vec!["0.0.0.0/0".into()],
            ports: Vec::new(),
            port_range: None,
            icmp_type: None,
            icmp_code: None,
            log: false,
        };
        let spec = garden::ContainerSpec { egress: vec![all], ..fixture.spec() };
        let handle = garden.create(spec).await.unwrap().handle;
        for user in ["root", "vcap"] {
            let connect = format!(
                "perl -MSocket -e 'socket(my $s, AF_UNIX, SOCK_STREAM, 0); connect($s, pack_sockaddr_un(\"\\0{name}\")) or print(\"no: $!\"); print <$s>'"
            );
            let said = says(&garden, &handle, user, &connect).await;
            assert_eq!(said, "no: Connection refused", "{user}");
            for address in ["127.0.0.1".to_owned(), gateway.to_string(), "169.254.169.254".into()] {
                let connect = format!("bash -c 'exec 3<>/dev/tcp/{address}/{port} && timeout 30 cat <&3'");
                let said = says(&garden, &handle, user, &connect).await;
                assert!(["refused", "unreachable"].iter().any(|one| said.contains(one))
                        && !said.contains("of the host"), "{user} {address}: {said}");
            }
        }
        // Sockets and signals of a neighbour with the same names are others.
        let other = made(&garden, &fixture).await;
        let serve = "perl -MSocket -e 'socket(my $s, AF_UNIX, SOCK_STREAM, 0); bind($s, pack_sockaddr_un(\"\\0own\")); listen($s, 1); $| = 1; print \"ready\\n\"; sleep 1000'";
        let mut serving = garden.run(&other, sh("vcap", serve)).await.unwrap();
        serving.output.recv().await.unwrap();
        let connect = "perl -MSocket -e 'socket(my $s, AF_UNIX, SOCK_STREAM, 0); connect($s, pack_sockaddr_un(\"\\0own\")) or print(\"no: $!\")'";
        assert_eq!(says(&garden, &handle, "vcap", connect).await, "no: Connection refused");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn debuggers_terminals_and_namespaces_stay_inside() {
    if !is_root() {
        return;
    }
    Bed::new()
        .run(|garden, fixture| async move {
            let handle = made(&garden, &fixture).await;
            const ATTACH: i32 = 16;
            const SEIZE: i32 = 0x4206;
            for user in ["root", "vcap"] {
                for how in [ATTACH, SEIZE] {
                    let script = format!("perl -e 'print syscall({}, {how}, 1, 0, 0), qq( $!)'", libc::SYS_ptrace);
                    let said = says(&garden, &handle, user, &script).await;
                    assert_eq!(said, "-1 Operation not permitted", "{user}");
                }
                for flags in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET, libc::CLONE_NEWPID, libc::CLONE_NEWCGROUP] {
                    let flags = flags | libc::SIGCHLD;
                    let script = format!("perl -e 'print syscall({}, {flags}, 0, 0, 0, 0), qq( $!)'", libc::SYS_clone);
                    let said = says(&garden, &handle, user, &script).await;
                    assert_eq!(said, "-1 Operation not permitted", "{user} {flags:x}");
                }
                for (call, name) in [(libc::SYS_add_key, "add_key"), (libc::SYS_request_key, "request_key"), (libc::SYS_syslog, "syslog"), (libc::SYS_quotactl, "quotactl"), (libc::SYS_acct, "acct"), (libc::SYS_swapon, "swapon"), (libc::SYS_fanotify_init, "fanotify_init")] {
                    let said = says(&garden, &handle, user, &format!("perl -e 'print syscall({call}, 0, 0, 0, 0, 0), qq( $!)'")).await;
                    assert_eq!(said, "-1 Operation not permitted", "{user} {name}");
                }
                for file in ["/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/modprobe", "/sys/kernel/uevent_helper", "/proc/irq/default_smp_affinity", "/proc/sys/fs/binfmt_misc/register"] {
                    let said = says(&garden, &handle, user, &format!("echo x > {file} && echo written")).await;
                    assert!(!said.contains("written"), "{user} {file}: {said}");
                }
                for device in ["mem", "kmem", "kmsg", "vda", "sda", "loop0", "loop-control", "kvm", "fuse", "net/tun", "btrfs-control", "mapper/control"] {
                    let said = says(&garden, &handle, user, &format!("test -e /dev/{device} && echo there")).await;
                    assert_eq!(said, "", "{user} {device}");
                }
                let groups = "for f in $(find /sys/fs/cgroup -name 'cgroup.procs' -o -name tasks -o -name release_agent -o -name 'memory.max' -o -name 'memory.limit_in_bytes'); do echo 0 > $f && echo written; done";
                let said = says(&garden, &handle, user, groups).await;
                assert!(!said.contains("written"), "{user}: {said}");
                let typed = ProcessSpec {
                    tty: Some(WindowSize { columns: 80, rows: 24 }),
                    ..sh(user, &format!("perl -e 'my $c = q(x); ioctl(STDIN, {}, $c) or print $!'", libc::TIOCSTI))
                };
                let mut process = garden.run(&handle, typed).await.unwrap();
                assert_eq!(text(&mut process).await, "Operation not permitted");
            }
            // Root inside may do with a user's process what root may, and no more than that.
            let (said, _) = outcome(&*garden, &handle, "root", "setpriv --reuid 2000 true; echo ends; cat /proc/1/environ 2> /dev/null | wc -c").await;
            assert_eq!(said, "ends\n0\n");
        })
        .await;
}

/// A process that takes all it can get of what the kernel counts by process leaves its neighbours theirs.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_runs_out_because_of_another() {
    if !is_root() {
        return;
    }
    Bed::new()
        .run(|garden, fixture| async move {
            let limits = Limits { memory_bytes: 96 << 20, pids: 64, ..Limits::default() };
            let spec = garden::ContainerSpec { limits, ..fixture.spec() };
            let handle = garden.create(spec).await.unwrap().handle;
            let other = made(&garden, &fixture).await;
            let open = "perl -e 'while (open(my $f, q(<), q(/dev/null))) { push @all, $f } print scalar(@all), qq( $!\\n); $| = 1; print qq(full\\n); sleep 1000'";
            let mut full = garden.run(&handle, sh("vcap", &format!("exec 2>&1; exec {open}"))).await.unwrap();
            let said = String::from_utf8_lossy(&full.output.recv().await.unwrap().data).into_owned();
            assert!(said.contains("Too many open files"), "{said}");
            // As many processes as there may be, and still neither the platform nor anybody else is kept from working.
            let mut forks = garden.run(&handle, sh("vcap", "for i in $(seq 200); do sleep 1000 & done; wait")).await.unwrap();
            while garden.metrics(&handle).await.unwrap().pids < 60 {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            for _ in 0..40 {
                // Full as it is, it may have no room for one more; the attempt must cost nothing that stays.
                let _ = garden.run(&handle, sh("vcap", "true")).await;
            }
            let answer = outcome(&*garden, &other, "vcap", "echo works").await;
            assert_eq!(answer, ("works\n".into(), Exit::Status(0)));
            garden.stop(&handle, true).await.unwrap();
            assert_eq!(full.wait().await, Some(Exit::Signal(9)));
            assert!(forks.wait().await.is_some(), "some shells give up when they cannot fork");
            let answer = outcome(&*garden, &handle, "vcap", "echo again").await;
            assert_eq!(answer, ("again\n".into(), Exit::Status(0)));
        })
        .await;
}
