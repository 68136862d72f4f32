//! Packs and unpacks files of the container, in a copy of the keeper that has become the user and sees nothing else.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::os::fd::{FromRawFd, RawFd};
use std::path::Path;

use shim::wire::{self, Refusal, Start, Stream};

use crate::exec::{self, Failed};
use crate::sys;

#[derive(Clone, Copy)]
pub enum Way {
    Unpack,
    Pack,
}

/// Does the work and ends; `report` closes without a word when all went well.
pub fn run(start: &Start, way: Way, stream: &Stream, data: RawFd, report: RawFd) -> ! {
    exec::keep_only(vec![data, report]);
    let result = (|| {
        let user = exec::resolve(start, &stream.user)?;
        exec::become_user(start, &user)?;
        let path = Path::new(&stream.path);
        match way {
            Way::Unpack => {
                unpack(path, file(data)).map_err(|error| failed("unpacking into", path, &error))
            }
            Way::Pack => pack(path, file(data)).map_err(|error| failed("packing", path, &error)),
        }
    })();
    if let Err(Failed(refusal)) = result {
        // The platform learns of the end by the closing pipe in any case.
        let _ = sys::write_all(report, &wire::encode(&refusal));
        sys::exit(1);
    }
    sys::exit(0)
}

#[expect(unsafe_code, reason = "the descriptor arrived as a number")]
fn file(data: RawFd) -> File {
    // SAFETY: nobody else in this process uses the descriptor.
    unsafe { File::from_raw_fd(data) }
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> Failed {
    if error.kind() == io::ErrorKind::NotFound && std::fs::symlink_metadata(path).is_err() {
        return Failed(Refusal {
            kind: wire::REFUSED_NO_FILE,
            errno: 0,
            what: path.display().to_string(),
        });
    }
    let errno = error.raw_os_error().unwrap_or(0);
    let mut what = format!("{doing} {}: {error}", path.display());
    // A report must fit a pipe's atomic write.
    what = what.chars().take(512).collect();
    Failed(Refusal { kind: wire::REFUSED_OTHER, errno, what })
}

fn unpack(path: &Path, from: File) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    let mut archive = tar::Archive::new(BufReader::with_capacity(64 * 1024, from));
    archive.set_preserve_permissions(true);
    archive.set_preserve_mtime(true);
    archive.unpack(path)?;
    // What follows the archive's end is read too, so that the sender never sees a broken pipe.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    Ok(())
}

/// A file becomes the one entry; of a folder, what is below it.
fn pack(path: &Path, to: File) -> io::Result<()> {
    let folder = std::fs::metadata(path)?.is_dir();
    let mut builder = tar::Builder::new(BufWriter::with_capacity(64 * 1024, to));
    builder.follow_symlinks(!folder);
    let packed = if folder {
        builder.append_dir_all(".", path)
    } else {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        builder.append_path_with_name(path, name)
    };
    if let Err(error) = packed {
        // Dropped, it would end the archive properly, and half of it would pass for the whole.
        std::mem::forget(builder);
        return Err(error);
    }
    builder.into_inner()?.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_unpacks() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(from.path().join("sub")).unwrap();
        let long = format!("sub/{}", "n".repeat(150));
        std::fs::write(from.path().join(&long), "deep").unwrap();
        std::os::unix::fs::symlink("nowhere", from.path().join("link")).unwrap();
        let archive = to.path().join("a.tar");
        pack(from.path(), File::create(&archive).unwrap()).unwrap();
        let out = to.path().join("out");
        unpack(&out, File::open(&archive).unwrap()).unwrap();
        assert_eq!(std::fs::read_to_string(out.join(&long)).unwrap(), "deep");
        assert_eq!(std::fs::read_link(out.join("link")).unwrap(), Path::new("nowhere"));
    }

    #[test]
    fn a_packed_file_is_one_entry_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("one"), "1").unwrap();
        pack(&dir.path().join("one"), File::create(dir.path().join("a.tar")).unwrap()).unwrap();
        let mut archive = tar::Archive::new(File::open(dir.path().join("a.tar")).unwrap());
        let names: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().into_owned())
            .collect();
        assert_eq!(names, [Path::new("one")]);
    }
}
