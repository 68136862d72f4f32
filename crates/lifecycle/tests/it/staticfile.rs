//! The staticfile buildpack and the server it starts, over real HTTP.

use std::fs;
use std::io::Read;
use std::time::Duration;

use crate::workshop::{Running, Workshop};

fn site(files: &[(&str, &str)]) -> (Workshop, Running) {
    let mut workshop = Workshop::new();
    for (name, text) in files {
        workshop.app(name, text);
    }
    workshop.system_buildpack("staticfile_buildpack").stage();
    workshop.deploy();
    let running = workshop.start();
    (workshop, running)
}

#[test]
fn a_page_is_enough() {
    let mut workshop = Workshop::new();
    workshop
        .app("index.html", "<h1>hello</h1>")
        .app("style.css", "a{}")
        .app(".secret", "x")
        .app("sub/index.html", "sub");
    workshop.system_buildpack("nodejs_buildpack").system_buildpack("staticfile_buildpack");
    let built = workshop.build(&[]);
    assert_eq!(built.code, 0, "{}{}", built.stdout, built.stderr);
    assert_eq!(workshop.result()["lifecycle_metadata"]["detected_buildpack"], "staticfile");
    assert_eq!(workshop.result()["process_types"]["web"], "$HOME/boot.sh");
    workshop.deploy();
    let app = workshop.start();

    let page = app.get("/");
    assert_eq!((page.status, page.text().as_str()), (200, "<h1>hello</h1>"));
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(app.get("/style.css").header("content-type"), Some("text/css; charset=utf-8"));
    assert_eq!(app.get("/none").status, 404);
    assert_eq!(app.get("/.secret").status, 404);
    assert_eq!(app.get("/../../etc/passwd").status, 404);
    assert_eq!(app.get("/%2e%2e/staging_info.yml").status, 404);
    let moved = app.get("/sub?a=b");
    assert_eq!((moved.status, moved.header("location")), (301, Some("/sub/?a=b")));
    assert_eq!(app.get("//sub").header("location"), Some("/sub/"));
    assert_eq!(app.get("/sub/").text(), "sub");
    let head = app.request("HEAD", "/", &[]);
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("14"), 0));
    assert_eq!(app.request("POST", "/", &[]).status, 405);

    let tag = page.header("etag").unwrap();
    assert_eq!(app.request("GET", "/", &[("If-None-Match", tag)]).status, 304);
    let part = app.request("GET", "/", &[("Range", "bytes=4-8")]);
    assert_eq!(
        (part.status, part.text().as_str(), part.header("content-range")),
        (206, "hello", Some("bytes 4-8/14"))
    );
    assert_eq!(app.request("GET", "/", &[("Range", "bytes=99-")]).status, 416);

    let mut logged = std::iter::from_fn(|| app.lines.recv_timeout(Duration::from_secs(10)).ok());
    let line = logged.find(|line| line.contains("\"GET /none HTTP/1.1\" 404 ")).unwrap();
    assert!(line.starts_with("- - - - ["), "{line}");
    assert!(app.terminate(), "it stops when asked");
}

#[test]
fn options_of_the_staticfile() {
    let text = "root: dist # where it lies\npushstate: enabled\nhttp_strict_transport_security: true\nstatus_codes:\n  403: /403.html\n";
    let (workshop, app) = site(&[
        ("Staticfile", text),
        ("dist/index.html", "app"),
        ("dist/403.html", "mine"),
        ("dist/assets/a.js", &"x".repeat(5000)),
        ("source.txt", "not served"),
    ]);
    assert!(!workshop.path("home/vcap/app/public/source.txt").exists());
    assert_eq!(app.get("/deep/link").text(), "app");
    assert_eq!(app.get("/source.txt").text(), "app");
    let page = app.get("/");
    assert_eq!(page.header("strict-transport-security"), Some("max-age=31536000"));
    let refused = app.get("/assets/");
    assert_eq!((refused.status, refused.text().as_str()), (403, "mine"));

    let packed = app.request("GET", "/assets/a.js", &[("Accept-Encoding", "gzip")]);
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    let mut plain = String::new();
    flate2::read::GzDecoder::new(&packed.body[..]).read_to_string(&mut plain).unwrap();
    assert_eq!(plain.len(), 5000);
    assert_eq!(app.get("/assets/a.js").body.len(), 5000);
}

#[test]
fn listings_https_and_passwords() {
    let (_workshop, app) = site(&[
        ("Staticfile", "directory: visible\nforce_https: true\nhost_dot_files: true\n"),
        ("Staticfile.auth", "bob:$apr1$12345678$68ZQVfPkWX/wcXr/41VxQ.\n"),
        ("a <b>.txt", "text"),
        (".well-known/x", "dot"),
    ]);
    let https = ("X-Forwarded-Proto", "https");
    let moved = app.request("GET", "/x?y", &[("X-Forwarded-Proto", "http, https")]);
    assert_eq!((moved.status, moved.header("location")), (301, Some("https://app.example/x?y")));
    let asked = app.request("GET", "/", &[https]);
    assert_eq!(
        (asked.status, asked.header("www-authenticate")),
        (401, Some("Basic realm=\"Restricted\""))
    );
    assert_eq!(app.request("GET", "/", &[https, ("Authorization", "Basic Ym9iOmI=")]).status, 401);
    // bob:a
    let known = ("Authorization", "Basic Ym9iOmE=");
    let list = app.request("GET", "/", &[https, known]).text();
    assert!(list.contains("<a href=\"./a%20%3Cb%3E.txt\">a &lt;b&gt;.txt</a>"), "{list}");
    assert!(list.contains("./.well-known/"), "{list}");
    assert_eq!(app.request("GET", "/.well-known/x", &[https, known]).text(), "dot");
    assert_eq!(app.request("GET", "/Staticfile.auth", &[https, known]).status, 404);
}

#[test]
fn a_root_outside_of_the_app_is_refused() {
    for (root, message) in
        [("../..", "lies outside"), ("none", "does not exist"), ("file", "plain file")]
    {
        let mut workshop = Workshop::new();
        workshop.app("Staticfile", &format!("root: {root}\n")).app("file", "x");
        let built = workshop.system_buildpack("staticfile_buildpack").build(&["-skipDetect"]);
        assert_eq!(built.code, 223, "{}", built.stdout);
        assert!(built.stderr.contains(message), "{}", built.stderr);
    }
}

#[test]
fn a_file_without_a_time_is_new_with_each_start() {
    let (workshop, app) = site(&[("index.html", "old")]);
    let page = workshop.path("home/vcap/app/public/index.html");
    let zero = |text: &str| {
        fs::write(&page, text).unwrap();
        let file = fs::File::options().write(true).open(&page).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    };
    zero("old");
    let first = app.get("/");
    let known = ["etag", "last-modified"].map(|name| first.header(name).unwrap().to_owned());
    assert!(!known[1].contains("1970"), "{}", known[1]);
    assert_eq!(app.request("GET", "/", &[("If-None-Match", &known[0])]).status, 304);
    drop(app);
    // As long as before, and as old.
    zero("new");
    let app = workshop.start();
    let again = app.request("GET", "/", &[("If-None-Match", &known[0])]);
    assert_eq!((again.status, again.text().as_str()), (200, "new"));
}

#[test]
fn a_big_file_costs_no_memory() {
    let (workshop, app) = site(&[("index.html", "x")]);
    let file = fs::File::create(workshop.path("home/vcap/app/public/big.bin")).unwrap();
    file.set_len(64 << 20).unwrap();
    assert_eq!(app.get("/big.bin").body.len(), 64 << 20);
    let status = fs::read_to_string(format!("/proc/{}/status", app.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 16 * 1024, "peak of {kib} KiB");
}
