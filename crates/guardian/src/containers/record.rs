//! What is kept of a container on disk, beside what its keeper writes.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::path::Path;

use base::Timestamp;
use garden::{ContainerInfo, ContainerSpec, Handle, PortMapping, ProcessId};
use serde::{Deserialize, Serialize};
use shim::PROCESSES;

/// The file that makes a folder a container.
const RECORD: &str = "container.json";
const NAME: &str = "id";

/// What a container must be known by after a restart.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its number among this host's containers; folder, ids and address follow from it.
    pub index: u32,
    pub handle: Handle,
    pub spec: ContainerSpec,
    pub ports: Vec<PortMapping>,
    pub host_ip: std::net::Ipv4Addr,
    pub container_ip: std::net::Ipv4Addr,
    pub created_at: Timestamp,
    /// The host's id for the container's root, which owns what the keeper writes.
    pub owner: u32,
}

impl Record {
    pub fn info(&self, processes: Vec<ProcessId>) -> ContainerInfo {
        ContainerInfo {
            handle: self.handle.clone(),
            host_ip: self.host_ip,
            container_ip: self.container_ip,
            ports: self.ports.clone(),
            properties: self.spec.properties.clone(),
            processes,
            created_at: self.created_at,
        }
    }
}

/// The processes of one container: those that run, and the last ones that have ended.
#[derive(Default)]
pub struct Processes {
    pub known: BTreeMap<ProcessId, u32>,
    pub ended: VecDeque<ProcessId>,
    pub next: u32,
}

pub fn load(dir: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(dir.join(RECORD)).ok()?).ok()
}

/// Replaces the record whole.
pub fn save(dir: &Path, record: &Record) -> io::Result<()> {
    let new = dir.join("container.json.new");
    fs::write(&new, serde_json::to_vec(record)?)?;
    fs::rename(new, dir.join(RECORD))
}

/// The folders a keeper needs to begin with. It writes as `owner`.
pub fn make_keeper_folders(dir: &Path, owner: u32) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let processes = dir.join(PROCESSES);
    fs::create_dir(&processes)?;
    own(&processes, owner)
}

pub fn make_process_folder(dir: &Path, id: &ProcessId, owner: u32) -> io::Result<()> {
    fs::create_dir(dir)?;
    fs::write(dir.join(NAME), id.as_str())?;
    own(dir, owner)
}

/// Hands a file over to a container's id; what is of the platform's own user stays.
pub fn own(path: &Path, owner: u32) -> io::Result<()> {
    if owner == 0 { Ok(()) } else { std::os::unix::fs::chown(path, Some(owner), Some(owner)) }
}

/// Known are those that run and those that left an exit; a folder with neither was never run.
pub fn find_processes(dir: &Path, running: &[u32]) -> io::Result<Processes> {
    let mut processes = Processes::default();
    for entry in fs::read_dir(dir.join(PROCESSES))? {
        let path = entry?.path();
        let Some(index) = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        processes.next = processes.next.max(index + 1);
        let id = fs::read_to_string(path.join(NAME)).ok();
        match id {
            Some(id) if running.contains(&index) || path.join(shim::EXIT).exists() => {
                processes.known.insert(ProcessId::from(id), index);
            }
            _ => fs::remove_dir_all(&path)?,
        }
    }
    Ok(processes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_without_process_or_exit_are_cleared() {
        let dir = tempfile::tempdir().unwrap();
        for (index, id, exit) in [(0, "done", true), (1, "runs", false), (4, "never", false)] {
            let folder = dir.path().join(PROCESSES).join(index.to_string());
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(NAME), id).unwrap();
            if exit {
                fs::write(folder.join(shim::EXIT), "status 0\n").unwrap();
            }
        }
        let found = find_processes(dir.path(), &[1]).unwrap();
        assert_eq!(found.known.keys().map(ProcessId::as_str).collect::<Vec<_>>(), ["done", "runs"]);
        assert_eq!(found.next, 5);
    }
}
