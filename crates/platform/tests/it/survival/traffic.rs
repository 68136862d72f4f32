//! Steady requests through the router while instances are killed: none is lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Backend, Cupola, pids};

/// Clients that ask all the time: half of them on one connection, half on a new one each time.
const CLIENTS: usize = 6;

#[test]
fn no_request_is_lost_when_instances_are_killed() {
    for backend in
        [Backend::Process, Backend::Linux].into_iter().filter(|backend| backend.is_possible())
    {
        let mut cupola = Cupola::with_space(backend);
        // Names the processes of this test alone.
        let marker = format!("serve-{}.py", std::process::id());
        let folder = cupola.app("twins", &[(&marker, SERVER)]);
        let start = format!("python3 {marker}");
        cupola.cf(&[
            "push",
            "twins",
            "-p",
            &folder,
            "-m",
            "64M",
            "-b",
            "binary_buildpack",
            "-c",
            &start,
            "-i",
            "2",
        ]);
        both(&mut cupola, &BTreeSet::new());
        let load = Load::begin(&cupola);
        // Twice each: from the third crash in a row on, Diego lets an instance wait.
        for index in ["0", "1", "0", "1"] {
            let before = born(&cupola);
            let victim = process(&marker, index);
            kill_process(victim, Signal::KILL).unwrap();
            both(&mut cupola, &before);
        }
        let (asked, lost) = load.end();
        assert!(asked > 200, "{asked} requests are no load");
        assert_eq!(lost, Vec::<String>::new(), "of {asked} requests over {backend:?}");
        eprintln!("{asked} requests over {backend:?}, none lost");
    }
}

/// Index and birth of those that answer.
fn born(cupola: &Cupola) -> BTreeSet<String> {
    (0..8)
        .map(|_| cupola.get("twins", "/"))
        .filter(|(status, _)| *status == 200)
        .map(|(_, text)| text)
        .collect()
}

/// Waits until two answer, and not the same two as `before`.
fn both(cupola: &mut Cupola, before: &BTreeSet<String>) {
    cupola.wait("both instances to answer", |cupola| {
        let now = born(cupola);
        (now.len() == 2 && now != *before).then_some(())
    });
}

/// The app's own process of one instance, as this host numbers it.
fn process(marker: &str, index: &str) -> Pid {
    let wanted = format!("CF_INSTANCE_INDEX={index}");
    let is_it = |pid: &i32| {
        let read = |file| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let (command, env) = (read("cmdline"), read("environ"));
        let words: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
        words.get(1).is_some_and(|word| *word == marker.as_bytes())
            && env.split(|byte| *byte == 0).any(|var| var == wanted.as_bytes())
    };
    let pid = pids().into_iter().find(is_it).expect("the instance runs");
    Pid::from_raw(pid).unwrap()
}

struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    clients: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Load {
    fn begin(cupola: &Cupola) -> Load {
        let (stop, asked): (Arc<AtomicBool>, Arc<AtomicU64>) = Default::default();
        let url = cupola.running("http");
        let clients = (0..CLIENTS).map(|number| {
            let (stop, asked, url) = (stop.clone(), asked.clone(), url.clone());
            std::thread::spawn(move || client(&url, number % 2 == 0, &stop, &asked))
        });
        let clients = clients.collect();
        Load { stop, asked, clients }
    }

    fn end(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let lost = self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        (self.asked.load(Ordering::Relaxed), lost)
    }
}

/// Answers what went wrong.
fn client(url: &str, keep: bool, stop: &AtomicBool, asked: &AtomicU64) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        base::http::install_crypto();
        let builder = reqwest::Client::builder().timeout(Duration::from_secs(30));
        let client = builder.pool_max_idle_per_host(usize::from(keep)).build().unwrap();
        let mut lost = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            asked.fetch_add(1, Ordering::Relaxed);
            let answer = client.get(url).header("host", "twins.localhost").send().await;
            match answer {
                Ok(answer) if answer.status() == 200 => {
                    if let Err(error) = answer.bytes().await {
                        lost.push(format!("cut off: {error:?}"));
                    }
                }
                Ok(answer) => lost.push(format!(
                    "{}: {}",
                    answer.status(),
                    answer.text().await.unwrap_or_default()
                )),
                Err(error) => lost.push(format!("{error:?}")),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        lost
    })
}

/// Takes a moment over every request, so that kills fall into some.
const SERVER: &str = r#"
import http.server, os, time
BORN = f"{os.environ['CF_INSTANCE_INDEX']} {time.time_ns()}".encode()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        time.sleep(0.01)
        self.send_response(200)
        self.send_header("Content-Length", str(len(BORN)))
        self.end_headers()
        self.wfile.write(BORN)
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;
