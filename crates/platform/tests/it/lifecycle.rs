//! Real apps from push to delete, by our own command line, over processes and over real containers.

use crate::harness::{Backend, Cupola};

fn on_both(test: impl Fn(&mut Cupola)) {
    for backend in
        [Backend::Process, Backend::Linux].into_iter().filter(|backend| backend.is_possible())
    {
        eprintln!("over {backend:?}");
        test(&mut Cupola::with_space(backend));
    }
}

#[test]
fn a_static_site() {
    on_both(|cupola| {
        let site = cupola.app(
            "site",
            &[("Staticfile", "root: public\n"), ("public/index.html", "<h1>hi</h1>\n")],
        );
        let text = cupola.cf(&["push", "site", "-p", &site, "-m", "32M"]);
        assert!(text.contains("running"), "{text}");
        assert_eq!(cupola.get("site", "/"), (200, "<h1>hi</h1>\n".to_owned()));
        assert_eq!(cupola.get("site", "/nothing").0, 404);
        let recent = cupola.wait("the request's line in the log", |cupola| {
            let text = cupola.cf(&["logs", "site", "--recent"]);
            text.contains("GET /nothing").then_some(text)
        });
        for source in ["[API/0]", "[STG/0]", "[CELL/0]", "[RTR/0]"] {
            assert!(recent.contains(source), "{source} is missing:\n{recent}");
        }
        cupola.cf(&["delete", "site", "-f", "-r"]);
        cupola.wait("the route to go", |cupola| (cupola.get("site", "/").0 == 404).then_some(()));
    });
}

#[test]
fn python_with_a_dependency_from_pypi() {
    on_both(|cupola| {
        let app = cupola.app(
            "flask",
            &[
                ("requirements.txt", "flask==3.1.2\n"),
                ("app.py", FLASK),
                ("Procfile", "web: python app.py\n"),
            ],
        );
        cupola.cf(&["push", "flask", "-p", &app, "-m", "256M"]);
        assert_eq!(cupola.get("flask", "/"), (200, "flask 3.1.2".to_owned()));
    });
}

#[test]
fn node_with_a_dependency_from_npm() {
    on_both(|cupola| {
        let app = cupola.app("odd", &[("package.json", PACKAGE), ("server.js", NODE)]);
        cupola.cf(&["push", "odd", "-p", &app, "-m", "256M"]);
        assert_eq!(cupola.get("odd", "/3"), (200, "true".to_owned()));
        assert_eq!(cupola.get("odd", "/4"), (200, "false".to_owned()));
    });
}

#[test]
fn a_binary_scales_crashes_and_restarts() {
    on_both(|cupola| {
        // Any program will do; this one is the system's own interpreter, named by the start command.
        let app = cupola.app("tool", &[("serve.py", TOOL)]);
        cupola.cf(&[
            "push",
            "tool",
            "-p",
            &app,
            "-m",
            "64M",
            "-b",
            "binary_buildpack",
            "-c",
            "python3 serve.py",
            "-i",
            "2",
        ]);
        cupola.wait("both instances to answer", |cupola| {
            let answers: Vec<String> = (0..6).map(|_| cupola.get("tool", "/").1).collect();
            (answers.iter().any(|text| text.starts_with("0 "))
                && answers.iter().any(|text| text.starts_with("1 ")))
            .then_some(())
        });
        cupola.cf(&["scale", "tool", "-i", "1"]);
        let first = cupola.wait("one instance to be left", |cupola| {
            let answers: Vec<String> = (0..6).map(|_| cupola.get("tool", "/").1).collect();
            answers.iter().all(|text| text.starts_with("0 ")).then(|| answers[0].clone())
        });
        cupola.get("tool", "/crash");
        cupola.wait("a new process to answer", |cupola| {
            let (status, text) = cupola.get("tool", "/");
            (status == 200 && text != first).then_some(())
        });
        cupola.wait("the crash to be told", |cupola| {
            cupola.cf(&["events", "tool"]).contains("app.crash").then_some(())
        });
        cupola.cf(&["set-env", "tool", "GREETING", "again"]);
        cupola.cf(&["restart", "tool"]);
        cupola.wait("the new variable", |cupola| {
            cupola.get("tool", "/").1.ends_with("again").then_some(())
        });
        cupola.cf(&["stop", "tool"]);
        cupola.wait("the route to go", |cupola| (cupola.get("tool", "/").0 == 404).then_some(()));
        cupola.cf(&["start", "tool"]);
        assert_eq!(cupola.get("tool", "/").0, 200);
    });
}

#[test]
fn an_app_over_its_memory_limit_is_killed_and_says_so() {
    if !Backend::Linux.is_possible() {
        return;
    }
    let mut cupola = Cupola::with_space(Backend::Linux);
    let app = cupola.app("tool", &[("serve.py", TOOL)]);
    cupola.cf(&[
        "push",
        "tool",
        "-p",
        &app,
        "-m",
        "64M",
        "-b",
        "binary_buildpack",
        "-c",
        "python3 serve.py",
    ]);
    cupola.get("tool", "/eat");
    cupola.wait("the reason in the events", |cupola| {
        cupola.cf(&["events", "tool"]).contains("out of memory").then_some(())
    });
}

#[test]
fn a_push_that_fails_says_why() {
    let cupola = Cupola::with_space(Backend::Process);
    let nothing = cupola.app("nothing", &[("notes.txt", "no app\n")]);
    let ran = cupola.try_cf(&["push", "nothing", "-p", &nothing, "-m", "32M"]);
    assert!(!ran.status.success(), "{}", ran.text);
    assert!(
        ran.text.contains("NoAppDetectedError")
            || ran.text.contains("None of the buildpacks detected a compatible application"),
        "{}",
        ran.text
    );
    let ends = cupola.app("ends", &[("serve.py", "print('bye')\n")]);
    let ran = cupola.try_cf(&[
        "push",
        "ends",
        "-p",
        &ends,
        "-m",
        "32M",
        "-b",
        "binary_buildpack",
        "-c",
        "python3 serve.py",
    ]);
    assert!(!ran.status.success(), "{}", ran.text);
    assert!(ran.text.contains("cf logs ends --recent"), "{}", ran.text);
}

const FLASK: &str = r#"
import importlib.metadata, os
from flask import Flask
app = Flask(__name__)
@app.route("/")
def version():
    return "flask " + importlib.metadata.version("flask")
app.run(host="0.0.0.0", port=int(os.environ["PORT"]))
"#;

const PACKAGE: &str = r#"{"name": "odd", "version": "1.0.0", "private": true, "scripts": {"start": "node server.js"}, "dependencies": {"is-odd": "3.0.1"}}"#;

const NODE: &str = r#"
const isOdd = require("is-odd");
require("http").createServer((request, response) => response.end(String(isOdd(request.url.slice(1))))).listen(process.env.PORT, "0.0.0.0");
"#;

/// Tells its index, when it was born, and a variable; ends or eats memory when told.
const TOOL: &str = r#"
import http.server, os, time
BORN = time.time_ns()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/crash":
            os._exit(3)
        if self.path == "/eat":
            hoard = []
            while True:
                hoard.append(bytearray(os.urandom(1 << 20)))
        body = f"{os.environ['CF_INSTANCE_INDEX']} {BORN} {os.environ.get('GREETING', '-')}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;
