//! Clients that ask an app all the time, and tell what went wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::harness::Cupola;

pub struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    clients: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Load {
    /// Through this platform's router; of several clients half keep a connection, half make a new one each time.
    pub fn begin(router: &Cupola, app: &str, clients: usize) -> Load {
        let (stop, asked): (Arc<AtomicBool>, Arc<AtomicU64>) = Default::default();
        let (url, host) = (router.running("http"), format!("{app}.localhost"));
        let client = |number| {
            let (stop, asked) = (stop.clone(), asked.clone());
            let (url, host) = (url.clone(), host.clone());
            std::thread::spawn(move || requests(&url, &host, number % 2 == 0, &stop, &asked))
        };
        let clients = (0..clients).map(client).collect();
        Load { stop, asked, clients }
    }

    /// How many requests there were, and what went wrong.
    pub fn end(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let lost = self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        (self.asked.load(Ordering::Relaxed), lost)
    }
}

fn requests(
    url: &str,
    host: &str,
    keep: bool,
    stop: &AtomicBool,
    asked: &AtomicU64,
) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        base::http::install_crypto();
        let builder = reqwest::Client::builder().timeout(Duration::from_secs(30));
        let client = builder.pool_max_idle_per_host(usize::from(keep)).build().unwrap();
        let mut lost = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            asked.fetch_add(1, Ordering::Relaxed);
            match client.get(url).header("host", host).send().await {
                Ok(answer) if answer.status() == 200 => {
                    if let Err(error) = answer.bytes().await {
                        lost.push(format!("cut off: {error:?}"));
                    }
                }
                Ok(answer) => {
                    let status = answer.status();
                    lost.push(format!("{status}: {}", answer.text().await.unwrap_or_default()));
                }
                Err(error) => lost.push(format!("{error:?}")),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        lost
    })
}

/// An app that tells which instance it is and when it was started. It takes a moment over every request, so that kills
/// fall into some.
pub const SERVER: &str = r#"
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
