//! An app that goes on while the platform is killed: the same process, every line of its log once and in order, and its
//! end reported when it ends meanwhile.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rustix::process::Signal;
use serde_json::Value;

use super::world::instances;
use crate::harness::{Backend, Cupola};

fn on_both(test: impl Fn(&mut Cupola)) {
    for backend in
        [Backend::Process, Backend::Linux].into_iter().filter(|backend| backend.is_possible())
    {
        eprintln!("over {backend:?}");
        test(&mut Cupola::with_space(backend));
    }
}

fn push(cupola: &Cupola, name: &str) {
    let folder = cupola.app(name, &[("talk.py", TALKER)]);
    cupola.cf(&[
        "push",
        name,
        "-p",
        &folder,
        "-m",
        "64M",
        "-b",
        "binary_buildpack",
        "-c",
        "python3 -u talk.py",
    ]);
}

#[test]
fn every_line_comes_once_and_in_order_whenever_the_platform_is_killed() {
    on_both(|cupola| {
        push(cupola, "talker");
        let (before, born) = (instances(cupola), cupola.get("talker", "/").1);
        let mut rng = StdRng::seed_from_u64(7);
        for _ in 0..8 {
            std::thread::park_timeout(Duration::from_millis(rng.random_range(0..400)));
            cupola.kill_and_up();
        }
        let again = cupola.wait("the app to answer", |cupola| match cupola.get("talker", "/") {
            (200, text) => Some(text),
            _ => None,
        });
        assert_eq!(again, born, "the same process answers");
        assert_eq!(instances(cupola), before, "the same instance runs");
        let last: u64 = cupola.get("talker", "/stop").1.parse().unwrap();
        assert!(last > 300, "it talked all the time, and said {last} lines");
        let end = format!("line {last}");
        let lines = cupola.wait("the last line", |cupola| {
            let lines = lines(cupola, "talker");
            lines.contains(&end).then_some(lines)
        });
        let said: Vec<u64> =
            lines.iter().filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect();
        assert!(
            said.iter().copied().eq(1..=last),
            "lines 1 to {last} were said, and heard was: {}",
            oddities(&said)
        );
    });
}

#[test]
fn an_instance_that_ends_meanwhile_is_reported_with_its_status() {
    on_both(|cupola| {
        push(cupola, "mortal");
        let exits = exits(&cupola.data());
        assert_eq!(cupola.get("mortal", "/end").0, 200);
        let api = cupola.running("api");
        cupola.signal(Signal::KILL);
        let data = cupola.data();
        // It goes on without the platform, and ends without it.
        let begun = std::time::Instant::now();
        while self::exits(&data) == exits {
            assert!(begun.elapsed() < Duration::from_secs(60), "it never ended");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        cupola.up();
        cupola.follow(&api);
        let event = cupola.wait("the crash to be told", |cupola| {
            let text = cupola.cf(&["events", "mortal"]);
            text.lines().find(|line| line.contains("app.crash")).map(str::to_owned)
        });
        assert!(event.contains("status 7"), "{event}");
        cupola.wait("a new instance to answer", |cupola| {
            (cupola.get("mortal", "/").0 == 200).then_some(())
        });
        let lines = lines(cupola, "mortal");
        let count = |text: &str| lines.iter().filter(|line| *line == text).count();
        assert_eq!((count("last words"), count("Exit status 7")), (1, 1), "{lines:#?}");
    });
}

/// The exits that shims have written.
fn exits(data: &Path) -> usize {
    let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let containers = entries(&data.join("containers/c"));
    containers
        .flat_map(|container| entries(&container.path().join("p")).collect::<Vec<_>>())
        .filter(|process| process.path().join("exit").exists())
        .count()
}

/// All log lines that are kept of an app, oldest first.
pub fn lines(cupola: &Cupola, app: &str) -> Vec<String> {
    let guid = cupola.cf(&["app", app, "--guid"]).trim().to_owned();
    let token = cupola.cf(&["oauth-token"]).trim().to_owned();
    let (mut found, mut from) = (Vec::new(), 0);
    loop {
        let url = format!(
            "{}/api/v1/read/{guid}?limit=1000&envelope_types=LOG&start_time={from}&end_time=9000000000000000000",
            cupola.running("api")
        );
        let authorization = format!("Authorization: {token}");
        let ran = cupola.run(std::process::Command::new("curl").args([
            "--silent",
            "--header",
            &authorization,
            &url,
        ]));
        let answer: Value =
            serde_json::from_str(&ran.text).unwrap_or_else(|_| panic!("{}", ran.text));
        let batch = answer["envelopes"]["batch"].as_array().unwrap();
        let Some(last) = batch.last() else { return found };
        from = last["timestamp"].as_str().unwrap().parse::<i64>().unwrap() + 1;
        for envelope in batch {
            let payload = STANDARD.decode(envelope["log"]["payload"].as_str().unwrap()).unwrap();
            found.push(String::from_utf8_lossy(&payload).into_owned());
        }
    }
}

/// What is missing, doubled or out of turn.
pub fn oddities(said: &[u64]) -> String {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    for number in said {
        *counts.entry(*number).or_default() += 1;
    }
    let last = said.iter().max().copied().unwrap_or_default();
    let missing: Vec<u64> = (1..=last).filter(|number| !counts.contains_key(number)).collect();
    let doubled: Vec<u64> =
        counts.iter().filter(|(_, count)| **count > 1).map(|(number, _)| *number).collect();
    let turns = said.windows(2).filter(|pair| pair[0] > pair[1]).count();
    format!("missing {missing:?}, doubled {doubled:?}, out of turn {turns}, last {last}")
}

/// Counts aloud, two hundred times a second; tells when it was born, stops talking, or ends a little later, when asked.
const TALKER: &str = r#"
import http.server, os, threading, time
BORN = str(time.time_ns())
talking, said, lock = True, 0, threading.Lock()
def talk():
    global said
    while True:
        with lock:
            if not talking:
                return
            said += 1
            print(f"line {said}", flush=True)
        time.sleep(0.005)
def end():
    time.sleep(0.7)
    with lock:
        print("last words", flush=True)
        os._exit(7)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global talking
        text = BORN
        if self.path == "/stop":
            with lock:
                talking, text = False, str(said)
        if self.path == "/end":
            threading.Thread(target=end).start()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())
    def log_message(self, *args):
        pass
threading.Thread(target=talk, daemon=True).start()
http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;
