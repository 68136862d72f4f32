//! A PostgreSQL for the tests: made in a temporary folder, on a free port, gone with the run.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

pub struct Server {
    programs: PathBuf,
    folder: PathBuf,
    url: String,
}

impl Server {
    pub fn start() -> anyhow::Result<Server> {
        let programs = programs()
            .context("PostgreSQL's programs are missing: scripts/setup test installs them")?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let folder = std::env::temp_dir().join(format!("cupola-postgres-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let server = Server {
            programs,
            folder,
            url: format!("postgres://postgres@127.0.0.1:{port}/postgres"),
        };
        server.give_away()?;
        let data = server.data();
        server.run(
            "initdb",
            &[
                "--pgdata",
                &data,
                "--username",
                "postgres",
                "--auth",
                "trust",
                "--no-sync",
                "--encoding",
                "UTF8",
                "--locale",
                "C.UTF-8",
            ],
        )?;
        // Tests care for answers, not for what survives a power cut.
        let settings = format!(
            "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off -c max_connections=500 -c shared_buffers=64MB"
        );
        let log = server.folder.join("log").display().to_string();
        server.run(
            "pg_ctl",
            &[
                "--pgdata",
                &data,
                "--wait",
                "--silent",
                "--log",
                &log,
                "--options",
                &settings,
                "start",
            ],
        )?;
        Ok(server)
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    fn data(&self) -> String {
        self.folder.join("data").display().to_string()
    }

    /// PostgreSQL refuses to run as root, so root hands the folder to the user that Debian's package made.
    fn give_away(&self) -> anyhow::Result<()> {
        if !is_root() {
            return Ok(());
        }
        let status = Command::new("chown").arg("postgres").arg(&self.folder).status()?;
        if !status.success() {
            bail!("no user postgres to run PostgreSQL as");
        }
        Ok(())
    }

    fn run(&self, program: &str, args: &[&str]) -> anyhow::Result<()> {
        let path = self.programs.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        // Its output would keep a pipe open for as long as the server runs.
        let status =
            command.args(args).current_dir("/").stdout(std::process::Stdio::null()).status()?;
        if !status.success() {
            bail!("{program} ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.data();
        if let Err(error) =
            self.run("pg_ctl", &["--pgdata", &data, "--mode", "immediate", "--silent", "stop"])
        {
            eprintln!("stopping PostgreSQL: {error:#}");
        }
        // The system's own cleaning of temporary folders is the second chance.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

/// The newest version that Debian installed.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .flatten()
        .map(|entry| entry.path().join("bin"));
    versions.filter(|folder| Path::new(&folder.join("initdb")).exists()).max()
}
