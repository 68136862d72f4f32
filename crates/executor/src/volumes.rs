//! What a container is given beside its root file system: volumes of services, and files of its owner.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail, ensure};
use diego::desired_lrp::{VolumeMount, VolumeMountedFile};
use garden::{BindMount, Tar};

/// Where files of service bindings lie in a container.
pub(crate) const FILES: &str = "/etc/cf-service-bindings";

/// Each volume is a folder of its driver's, made when it is wanted for the first time and never removed here: its
/// content belongs to a service instance, not to a container. Everyone may write in it who may mount it writable.
pub(crate) fn mounts(
    drivers: &BTreeMap<String, PathBuf>,
    wanted: &[VolumeMount],
) -> anyhow::Result<Vec<BindMount>> {
    wanted.iter().map(|volume| mount(drivers, volume)).collect()
}

fn mount(drivers: &BTreeMap<String, PathBuf>, wanted: &VolumeMount) -> anyhow::Result<BindMount> {
    let driver = &wanted.driver;
    let root = drivers.get(driver).with_context(|| format!("no volume driver {driver:?} here"))?;
    let id = &wanted.shared.volume_id;
    ensure!(is_name(id), "{id:?} names no volume");
    let target = PathBuf::from(&wanted.container_dir);
    ensure!(is_absolute(&target), "{} is no place for a volume", target.display());
    let writable = match wanted.mode.as_str() {
        "rw" => true,
        "r" => false,
        other => bail!("{other:?} is no mode of a volume"),
    };
    let source = root.join(id);
    if !source.is_dir() {
        fs::create_dir_all(&source)
            .and_then(|()| fs::set_permissions(&source, fs::Permissions::from_mode(0o777)))
            .with_context(|| format!("making volume {id}"))?;
    }
    Ok(BindMount { source, target, writable })
}

fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !text.is_empty() && text.len() <= 200 && !text.starts_with('.') && text.bytes().all(plain)
}

fn is_absolute(path: &Path) -> bool {
    let mut parts = path.components();
    parts.next() == Some(Component::RootDir)
        && parts.clone().next().is_some()
        && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// An archive of files, to be unpacked at [`FILES`]; `None` when there are none.
pub(crate) fn archive(files: &[VolumeMountedFile]) -> anyhow::Result<Option<Tar>> {
    if files.is_empty() {
        return Ok(None);
    }
    let mut builder = tar::Builder::new(Vec::new());
    for file in files {
        let path = Path::new(file.path.trim_start_matches('/'));
        let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        ensure!(inside && path.file_name().is_some(), "{:?} names no file", file.path);
        let mut header = tar::Header::new_gnu();
        header.set_size(file.content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, file.content.as_bytes())?;
    }
    Ok(Some(Box::pin(std::io::Cursor::new(builder.into_inner()?))))
}

#[cfg(test)]
mod tests {
    use diego::desired_lrp::SharedDevice;

    use super::*;

    fn wanted(driver: &str, id: &str, dir: &str, mode: &str) -> VolumeMount {
        VolumeMount {
            driver: driver.into(),
            container_dir: dir.into(),
            mode: mode.into(),
            shared: SharedDevice { volume_id: id.into(), ..SharedDevice::default() },
        }
    }

    #[test]
    fn a_volume_is_a_folder_of_its_driver() {
        let dir = tempfile::tempdir().unwrap();
        let drivers = [("local".to_owned(), dir.path().to_owned())].into();
        let mounts = mounts(&drivers, &[wanted("local", "v1", "/var/data", "rw")]).unwrap();
        let want =
            BindMount { source: dir.path().join("v1"), target: "/var/data".into(), writable: true };
        assert_eq!(mounts, [want]);
        assert!(dir.path().join("v1").is_dir());
        let mode =
            |mode| mount(&drivers, &wanted("local", "v1", "/d", mode)).map(|one| one.writable);
        assert!(!mode("r").unwrap());
        for wrong in [
            wanted("nfs", "v1", "/d", "r"),
            wanted("local", "../v1", "/d", "r"),
            wanted("local", "", "/d", "r"),
            wanted("local", "v1", "d", "r"),
            wanted("local", "v1", "/", "r"),
            wanted("local", "v1", "/d/../../e", "r"),
            wanted("local", "v1", "/d", "x"),
        ] {
            assert!(mount(&drivers, &wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn files_stay_below_their_folder() {
        let file = |path: &str| VolumeMountedFile { path: path.into(), content: "x".into() };
        assert!(archive(&[]).unwrap().is_none());
        assert!(archive(&[file("db/password"), file("/db/user")]).unwrap().is_some());
        for wrong in ["", "/", "../shadow", "a/../../b"] {
            assert!(archive(&[file(wrong)]).is_err(), "{wrong:?}");
        }
    }
}
