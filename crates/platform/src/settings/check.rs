//! What a setting's type cannot say: refused before anything is opened or made.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use guardian::linux::Network;
use tracing_subscriber::EnvFilter;

use super::Settings;

/// # Errors
/// Name the setting, what it was given and what it takes.
pub fn check(settings: &Settings) -> anyhow::Result<()> {
    let domain = &settings.domain;
    ensure!(
        is_domain(domain),
        "domain: {domain:?} is not a domain name: it takes letters, digits, hyphens and dots, such as apps.example.com"
    );
    let ports = (settings.http_port, settings.https_port);
    if let (Some(http), Some(https)) = ports {
        ensure!(
            http != https || http == 0,
            "http_port and https_port are both {http}: each needs a port of its own"
        );
    }
    ensure!(
        !settings.admin_user.trim().is_empty(),
        "admin_user: the first user needs a name, such as admin"
    );
    ensure!(
        settings.admin_password.as_deref() != Some(""),
        "admin_password is empty: give one, or leave it out and one is made"
    );
    for (name, value) in [("memory_mb", settings.memory_mb), ("disk_mb", settings.disk_mb)] {
        ensure!(
            value != Some(0),
            "{name} is 0, so that no app could run: give the MB that apps may use in all, or leave it out"
        );
    }
    for stack in &settings.stacks {
        ensure!(
            is_plain(stack),
            "stacks: {stack:?} is not a name: it takes letters, digits, dots, hyphens and underscores, such as cflinuxfs4"
        );
    }
    if let Some(network) = &settings.container_network {
        ensure!(
            Network::parse(network).is_some(),
            "container_network: {network:?} is not a range such as 10.254.0.0/16, with a prefix from 8 to 29"
        );
    }
    if let Some(address) = settings.cells_listen {
        ensure!(
            !address.ip().is_unspecified(),
            "cells_listen: {address} names no machine: give the address by which cells reach this one"
        );
    }
    if let Err(error) = EnvFilter::try_new(&settings.log) {
        bail!(
            "log: {:?} is no filter ({error}): use error, warn, info, debug or trace, or one for each part such as info,bbs=debug",
            settings.log
        );
    }
    if let Some((certificate, key)) = &settings.tls {
        readable("tls_certificate", certificate, "CERTIFICATE")?;
        readable("tls_key", key, "PRIVATE KEY")?;
    }
    Ok(())
}

fn readable(name: &str, path: &Path, kind: &str) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{name}: reading {}", path.display()))?;
    ensure!(
        text.contains(&format!("{kind}-----")),
        "{name}: {} holds no {}: it takes a PEM file",
        path.display(),
        kind.to_lowercase()
    );
    Ok(())
}

fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && !text.starts_with('.')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Given;

    #[track_caller]
    fn refused(toml: &str, parts: &[&str]) {
        let given: Given = toml::from_str(toml).unwrap();
        let settings = given.resolve(true, None).unwrap();
        let error = format!("{:#}", check(&settings).unwrap_err());
        for part in parts {
            assert!(error.contains(part), "{part:?} is missing in: {error}");
        }
    }

    #[test]
    fn defaults_are_fine() {
        check(&Given::default().resolve(true, None).unwrap()).unwrap();
    }

    #[test]
    fn what_cannot_work_is_refused_by_name_with_what_would() {
        refused("domain = 'no spaces'", &["domain", "no spaces", "apps.example.com"]);
        refused("domain = '-a.test'", &["domain"]);
        refused("http_port = 81\nhttps_port = 81", &["http_port and https_port", "81"]);
        refused("admin_user = ' '", &["admin_user"]);
        refused("admin_password = ''", &["admin_password"]);
        refused("memory_mb = 0", &["memory_mb", "0"]);
        refused("disk_mb = 0", &["disk_mb"]);
        refused("stacks = ['../etc']", &["stacks", "../etc"]);
        refused("container_network = '10.0.0.0'", &["container_network", "10.254.0.0/16"]);
        refused("cells_listen = '0.0.0.0:8444'", &["cells_listen", "names no machine"]);
        refused("log = 'bbs=loud'", &["log", "bbs=loud", "debug"]);
        refused(
            "tls_certificate = '/nowhere.crt'\ntls_key = '/nowhere.key'",
            &["tls_certificate", "/nowhere.crt", "No such file"],
        );
    }

    #[test]
    fn a_file_that_is_no_certificate_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "hello").unwrap();
        let toml = format!("tls_certificate = '{0}'\ntls_key = '{0}'", path.display());
        refused(&toml, &["tls_certificate", "no certificate", "PEM"]);
    }
}
