//! The buildpack contract, played through with small buildpacks.

use serde_json::json;

use crate::workshop::{Workshop, write};

const NOTHING: (&str, &str) = ("release", "echo '--- {}'");

#[test]
fn the_first_buildpack_that_detects_is_taken() {
    let mut workshop = Workshop::new();
    workshop.app("hello.txt", "hi");
    workshop.buildpack("no", &[("detect", "exit 1"), ("finalize", "exit 9")]);
    workshop.buildpack(
        "yes",
        &[
            ("detect", "[ -f $1/hello.txt ] && echo 'greeter 1.2'"),
            ("supply", "echo supplied > $3/$4/note; echo kept > $2/kept"),
            (
                "finalize",
                "cp $3/$4/note $1/note; echo 'export A=1' > $5/a.sh; echo '-----> Finalizing'",
            ),
            ("release", "printf 'default_process_types:\\n  web: run it\\n'"),
        ],
    );
    workshop.buildpack("never", &[("detect", "exit 0")]);
    let built = workshop.build(&[]);
    assert_eq!((built.code, built.stderr.as_str()), (0, ""), "{}", built.stdout);
    assert_eq!(built.stdout, "-----> Finalizing\n");
    let buildpack = json!({"key": "yes", "name": "greeter 1.2"});
    let want = json!({
        "lifecycle_type": "buildpack",
        "lifecycle_metadata": {"buildpack_key": "yes", "detected_buildpack": "greeter 1.2", "buildpacks": [buildpack]},
        "process_types": {"web": "run it"},
        "processes": [{"type": "web", "command": "run it"}],
        "execution_metadata": "",
    });
    assert_eq!(workshop.result(), want);
    let names = workshop.entries("tmp/droplet");
    for name in [
        "./",
        "./app/",
        "./app/hello.txt",
        "./app/note",
        "./deps/0/note",
        "./logs/",
        "./profile.d/a.sh",
        "./tmp/",
    ] {
        assert!(names.iter().any(|known| known == name), "{name} in {names:?}");
    }
    assert_eq!(workshop.entries("tmp/output-cache"), ["./", "./final/", "./final/kept"]);
    workshop.deploy();
    let info = r#"{"detected_buildpack":"greeter 1.2","start_command":"run it"}"#;
    assert_eq!(workshop.read("home/vcap/staging_info.yml").trim(), info);
}

#[test]
fn no_match_is_222() {
    let mut workshop = Workshop::new();
    workshop.buildpack("no", &[("detect", "exit 1")]).ordered("missing");
    let built = workshop.build(&[]);
    assert_eq!(built.code, 222);
    assert!(
        built.stderr.ends_with("None of the buildpacks detected a compatible application\n"),
        "{}",
        built.stderr
    );
    assert!(built.stderr.contains("Failed to read buildpack directory"), "{}", built.stderr);
}

#[test]
fn several_buildpacks_work_together() {
    let mut workshop = Workshop::new();
    let launch = "printf 'processes:\\n- {type: web, command: first}\\n- {type: worker, command: work}\\n' > $3/$4/launch.yml";
    let config = "printf 'name: one\\nversion: 3\\nconfig: {entrypoint_prefix: my-shell}\\n' > $3/$4/config.yml";
    workshop.buildpack(
        "first",
        &[("supply", &format!("{launch}; echo \"name: tool\nversion: '1.0'\" > $3/$4/config.yml"))],
    );
    workshop.buildpack(
        "last",
        &[
            ("supply", config),
            ("finalize", "[ $4 = 1 ]; cat $3/0/launch.yml > /dev/null; echo 'processes: [{type: web, command: last}, {type: log, command: tail, limits: {memory: 8}, platforms: {cloudfoundry: {sidecar_for: [web]}}}]' > $3/1/launch.yml"),
            ("release", "exit 3"),
        ],
    );
    workshop.app("Procfile", "worker: from procfile\n");
    let built = workshop.stage();
    assert_eq!(built.stderr, "");
    let result = workshop.result();
    assert_eq!(result["process_types"], json!({"web": "last", "worker": "from procfile"}));
    assert_eq!(
        result["sidecars"],
        json!([{"name": "log", "process_types": ["web"], "command": "tail", "memory": 8}])
    );
    let buildpacks = &result["lifecycle_metadata"]["buildpacks"];
    assert_eq!(buildpacks[0], json!({"key": "first", "name": "tool", "version": "1.0"}));
    assert_eq!(buildpacks[1]["config"], json!({"entrypoint_prefix": "my-shell"}));
    assert_eq!(result["lifecycle_metadata"]["buildpack_key"], "last");
    let caches = workshop.entries("tmp/output-cache");
    let of_first = workshop.folder_of("first").file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(caches.len(), 3, "{caches:?}");
    assert!(caches.contains(&format!("./{of_first}/")) && caches.contains(&"./final/".to_owned()));
}

#[test]
fn unused_caches_are_removed() {
    let mut workshop = Workshop::new();
    write(&workshop.path("tmp/cache/old/file"), "x", 0o644);
    write(&workshop.path("tmp/cache/final/file"), "x", 0o644);
    workshop.buildpack("one", &[("finalize", "[ -f $2/file ]"), NOTHING]);
    let built = workshop.stage();
    assert!(
        built.stderr.starts_with("No start command specified by buildpack or via Procfile.\n"),
        "{}",
        built.stderr
    );
    assert_eq!(workshop.entries("tmp/output-cache"), ["./", "./final/", "./final/file"]);
}

#[test]
fn an_old_buildpack_compiles() {
    let mut workshop = Workshop::new();
    workshop.buildpack("first", &[("supply", "true")]);
    workshop.buildpack(
        "old",
        &[("compile", "[ $# = 2 ]; ls $1 $2 > /dev/null; echo made > $1/made"), NOTHING],
    );
    let built = workshop.stage();
    assert!(
        built.stderr.contains("is not compatible with multi-buildpack apps"),
        "{}",
        built.stderr
    );
    let names = workshop.entries("tmp/droplet");
    assert!(names.contains(&"./app/made".to_owned()) && names.contains(&"./deps/0/".to_owned()));
    assert!(!names.contains(&"./deps/1/".to_owned()), "{names:?}");
}

/// Scripts of the last buildpack and how its build ends.
#[track_caller]
fn fails(scripts: &[(&str, &str)], code: i32, message: &str) {
    let mut workshop = Workshop::new();
    workshop.buildpack("last", scripts);
    let built = workshop.build(&["-skipDetect"]);
    assert_eq!((built.code, built.stderr.trim_end()), (code, message), "{}", built.stdout);
    let result = workshop.result();
    assert_eq!(result["lifecycle_metadata"]["buildpack_key"], "last");
    assert_eq!(result["process_types"], json!({}));
}

#[test]
fn failures_have_the_codes_and_words_of_cloud_foundry() {
    fails(&[("compile", "exit 7")], 223, "Failed to compile droplet: exit status 7");
    fails(
        &[("finalize", "exit 7")],
        223,
        "Failed to compile droplet: Failed to run finalize script: exit status 7",
    );
    let supply = [("supply", "exit 14"), ("finalize", "true")];
    fails(
        &supply,
        223,
        "Failed to compile droplet: Failed to run all supply scripts: exit status 14",
    );
    fails(
        &[("finalize", "true"), ("release", "exit 2")],
        224,
        "Failed to build droplet release: exit status 2",
    );
    let invalid = [("finalize", "true"), ("release", "echo '['")];
    let mut workshop = Workshop::new();
    let built = workshop.buildpack("last", &invalid).build(&["-skipDetect"]);
    assert_eq!(built.code, 224);
    assert!(
        built
            .stderr
            .starts_with("Failed to build droplet release: buildpack's release output invalid"),
        "{}",
        built.stderr
    );
}

#[test]
fn a_supplying_buildpack_fails_with_225() {
    let mut workshop = Workshop::new();
    workshop
        .buildpack("first", &[("supply", "exit 5")])
        .buildpack("last", &[("finalize", "true"), NOTHING]);
    let built = workshop.build(&["-skipDetect"]);
    assert_eq!(
        (built.code, built.stderr.trim_end()),
        (225, "Failed to run all supply scripts: exit status 5")
    );
    let mut workshop = Workshop::new();
    workshop
        .buildpack("first", &[("compile", "true")])
        .buildpack("last", &[("finalize", "true"), NOTHING]);
    let built = workshop.build(&["-skipDetect"]);
    assert_eq!(built.code, 225);
    assert!(built.stderr.contains("does not support multi-buildpack apps"), "{}", built.stderr);
}

#[test]
fn a_bad_procfile_and_missing_flags_are_plain_failures() {
    let mut workshop = Workshop::new();
    workshop.app("Procfile", "web python app.py\n");
    let built = workshop.buildpack("one", &[("finalize", "true"), NOTHING]).build(&["-skipDetect"]);
    assert_eq!(
        (built.code, built.stderr.trim_end()),
        (1, "Failed to read command from Procfile: invalid YAML")
    );
    let built = Workshop::new().build(&[]);
    assert_eq!((built.code, built.stderr.trim_end()), (1, "missing flag: -buildpackOrder"));
}

#[test]
fn a_nested_folder_and_the_older_name_are_found() {
    let mut workshop = Workshop::new();
    let nested = workshop.folder_of("nested").join("only/bin");
    write(&nested.join("finalize"), "#!/bin/sh\ntouch $1/nested\n", 0o755);
    write(&nested.join("release"), "#!/bin/sh\n", 0o755);
    workshop.ordered("nested").stage();
    assert!(workshop.path("tmp/app/nested").exists());

    let mut workshop = Workshop::new();
    // MD5 of "abc", as buildpack folders were named before.
    let old = workshop.path("tmp/buildpacks/900150983cd24fb0d6963f7d28e17f72/bin");
    write(&old.join("finalize"), "#!/bin/sh\ntouch $1/old\n", 0o755);
    write(&old.join("release"), "#!/bin/sh\n", 0o755);
    workshop.ordered("abc").stage();
    assert!(workshop.path("tmp/app/old").exists());
}

#[test]
fn a_buildpack_may_come_from_a_git_repository() {
    let mut workshop = Workshop::new();
    let repository = workshop.path("repository");
    write(&repository.join("bin/finalize"), "#!/bin/sh\ntouch $1/from-git\n", 0o755);
    write(&repository.join("bin/release"), "#!/bin/sh\n", 0o755);
    let git = |words: &[&str]| {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
        let done = std::process::Command::new("git")
            .current_dir(&repository)
            .args(identity)
            .args(words)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "first"]);
    git(&["branch", "other"]);
    let url = format!("file://{}#other", repository.display());
    workshop.ordered(&url).stage();
    assert!(workshop.path("tmp/app/from-git").exists());
    assert_eq!(workshop.result()["lifecycle_metadata"]["buildpack_key"], url);

    let mut workshop = Workshop::new();
    let built = workshop.ordered("file:///nowhere/at/all").build(&["-skipDetect"]);
    assert_eq!(built.code, 1);
    assert!(
        built.stderr.starts_with("Failed to clone git repository at file:///nowhere/at/all"),
        "{}",
        built.stderr
    );
}

#[test]
fn scripts_see_the_bound_database() {
    let mut workshop = Workshop::new();
    workshop.variable("VCAP_SERVICES", r#"{"db":[{"credentials":{"uri":"postgresql://u@h/d"}}]}"#);
    workshop.buildpack("one", &[("finalize", "echo $DATABASE_URL > $1/url"), NOTHING]).stage();
    assert_eq!(workshop.read("tmp/app/url"), "postgres://u@h/d\n");
}
