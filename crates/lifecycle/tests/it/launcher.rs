//! What a started app finds.

use crate::workshop::{Workshop, write};

fn deployed() -> Workshop {
    let workshop = Workshop::new();
    write(&workshop.path("home/vcap/app/file"), "here", 0o644);
    write(&workshop.path("home/vcap/profile.d/1.sh"), "export TRACE=${TRACE:-}1", 0o644);
    write(&workshop.path("home/vcap/profile.d/2.sh"), "export TRACE=${TRACE}2", 0o644);
    write(&workshop.path("home/vcap/app/.profile.d/a b.sh"), "export TRACE=${TRACE}3", 0o644);
    write(&workshop.path("home/vcap/app/.profile"), "export TRACE=${TRACE}4", 0o644);
    workshop
}

#[test]
fn profiles_run_in_order_before_the_command() {
    let launched = deployed().launch("cat file; echo \" $TRACE\"; exit 3");
    assert_eq!(
        launched.stdout,
        "Invoking pre-start scripts.\nInvoking start command.\nhere 1234\n"
    );
    assert_eq!((launched.code, launched.stderr.as_str()), (3, ""));
}

#[test]
fn the_environment_is_that_of_the_contract() {
    let mut workshop = deployed();
    workshop
        .variable("VCAP_APPLICATION", r#"{"name":"app"}"#)
        .variable("PORT", "8080")
        .variable("INSTANCE_INDEX", "1");
    workshop.variable("VCAP_SERVICES", r#"{"x":[{"credentials":{"uri":"mysql://h/d"}}]}"#);
    workshop.variable("INSTANCE_GUID", "guid").variable("VCAP_PLATFORM_OPTIONS", "{}");
    let command = "for name in HOME PWD TMPDIR DEPS_DIR VCAP_APPLICATION DATABASE_URL VCAP_PLATFORM_OPTIONS; do echo $name=${!name-unset}; done";
    let launched = workshop.launch(command);
    let vcap = workshop.path("home/vcap").display().to_string();
    let lines: Vec<String> =
        launched.stdout.lines().skip(2).map(|line| line.replace(&vcap, "VCAP")).collect();
    let want = [
        "HOME=VCAP/app",
        "PWD=VCAP/app",
        "TMPDIR=VCAP/tmp",
        "DEPS_DIR=VCAP/deps",
        r#"VCAP_APPLICATION={"host":"0.0.0.0","instance_id":"guid","instance_index":1,"name":"app","port":8080}"#,
        "DATABASE_URL=mysql2://h/d",
        "VCAP_PLATFORM_OPTIONS=unset",
    ];
    assert_eq!(lines, want);
}

#[test]
fn without_a_command_the_droplets_is_taken() {
    let workshop = deployed();
    let launched = workshop.launch("");
    assert_eq!(launched.code, 1);
    assert_eq!(launched.stderr, "launcher: no start command specified or detected in droplet\n");
    let info = r#"{"detected_buildpack":"x","start_command":"echo from droplet"}"#;
    write(&workshop.path("home/vcap/staging_info.yml"), info, 0o644);
    assert!(workshop.launch("").stdout.ends_with("\nfrom droplet\n"));
    let prefixed = r#"{"start_command":"word","config":{"entrypoint_prefix":"echo prefixed"}}"#;
    write(&workshop.path("home/vcap/staging_info.yml"), prefixed, 0o644);
    assert!(workshop.launch("").stdout.ends_with("\nprefixed word\n"));
}

#[test]
fn the_working_directory_need_not_be_the_home() {
    let workshop = deployed();
    let output = workshop.launcher("cat file").current_dir("/").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("here"));
}
