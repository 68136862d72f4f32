//! Pure: whether a zip may be unpacked. It is read to the end, so that what is damaged is told now and not while staging.

use std::collections::HashSet;
use std::fs::File;
use std::io::{ErrorKind, Read};

use zip::ZipArchive;
use zip::result::ZipError;

use super::bits;
use crate::errors::ApiError;

/// Why it may not.
#[derive(Debug)]
pub enum Refused {
    /// Its own fault, in words for whoever sent it.
    Bad(String),
    /// It could not be read, or there is no room.
    Failed(anyhow::Error),
}

impl Refused {
    /// 400 for a package, in Cloud Foundry's words.
    pub fn into_package_error(self) -> ApiError {
        match self {
            Refused::Bad(why) => bits::invalid(why),
            Refused::Failed(error) => error.into(),
        }
    }
}

fn invalid(why: impl std::fmt::Display) -> Refused {
    Refused::Bad(why.to_string())
}

const MOST_ENTRIES: usize = 500_000;
/// How many headers of entries a file may seem to hold, nested archives' too, before anybody makes a list of them.
const MOST_HEADERS: usize = 1_000_000;
const HEADER: &[u8; 4] = b"PK\x01\x02";

/// How closely it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    Names,
    Contents,
}

/// # Errors
/// For one that is broken, leads out of its folder (names, links, what lies behind a link), or unpacks to more than
/// `limit` bytes, whatever sizes it claims.
pub fn inspect(mut file: File, limit: u64, depth: Depth) -> Result<(), Refused> {
    if headers(&mut file).map_err(read_error)? > MOST_HEADERS {
        return Err(invalid(format_args!("it has more than {MOST_ENTRIES} files")));
    }
    let mut archive = ZipArchive::new(file).map_err(refused)?;
    if archive.len() > MOST_ENTRIES {
        return Err(invalid(format_args!("it has more than {MOST_ENTRIES} files")));
    }
    if archive.has_overlapping_files().map_err(refused)? {
        return Err(invalid("its files overlap"));
    }
    let mut links = HashSet::new();
    let mut size: u64 = 0;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(refused)?;
        let name = entry.name().to_owned();
        if !is_inside(&name) {
            return Err(invalid(format_args!("the path {name:?} leads out of its folder")));
        }
        size = size.saturating_add(entry.size());
        if size > limit {
            return Err(invalid(format_args!("unpacked it is larger than {} MB", limit >> 20)));
        }
        if entry.is_symlink() {
            let mut target = String::new();
            let read = entry.by_ref().take(4096).read_to_string(&mut target);
            read.map_err(|_| damaged(&name))?;
            if !link_stays_inside(&name, &target) {
                return Err(invalid(format_args!("the link {name:?} leads out of its folder")));
            }
            links.insert(plain(&name));
        } else if depth == Depth::Contents && entry.is_file() {
            let claimed = entry.size();
            let mut content = entry.by_ref().take(claimed.saturating_add(1));
            let held = std::io::copy(&mut content, &mut std::io::sink());
            if held.map_err(|_| damaged(&name))? != claimed {
                return Err(damaged(&name));
            }
        }
    }
    match archive.file_names().find(|name| lies_behind(name, &links)) {
        Some(name) if !links.is_empty() => {
            Err(invalid(format_args!("the path {name:?} lies behind a link")))
        }
        _ => Ok(()),
    }
}

fn damaged(name: &str) -> Refused {
    invalid(format_args!("the file {name:?} is damaged"))
}

/// The archive's fault, or the disk's.
pub fn refused(error: ZipError) -> Refused {
    match error {
        ZipError::Io(error) => read_error(error),
        ZipError::InvalidArchive(why) => {
            invalid(format_args!("it is no whole zip archive ({why})"))
        }
        ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED) => {
            invalid("it has files that a password locks")
        }
        other => invalid(other),
    }
}

fn read_error(error: std::io::Error) -> Refused {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput => {
            invalid(format_args!("it is no whole zip archive ({error})"))
        }
        _ => Refused::Failed(anyhow::Error::new(error).context("reading or writing a zip")),
    }
}

/// How often a header's first bytes stand in the file: at least as often as it has entries.
fn headers(file: &mut File) -> std::io::Result<usize> {
    let (mut buffer, mut kept, mut count) = (vec![0; 256 << 10], 0, 0);
    loop {
        let read = file.read(&mut buffer[kept..])?;
        if read == 0 {
            return Ok(count);
        }
        let filled = kept + read;
        count += buffer[..filled].windows(HEADER.len()).filter(|bytes| bytes == HEADER).count();
        // A header may begin in one piece and end in the next.
        kept = filled.min(HEADER.len() - 1);
        buffer.copy_within(filled - kept..filled, 0);
    }
}

/// Relative, and never above where it starts.
pub fn is_inside(path: &str) -> bool {
    !path.is_empty() && !path.starts_with('/') && !path.contains('\0') && depth(path).is_some()
}

/// How deep a path ends; `None` when it climbs out on the way.
fn depth(path: &str) -> Option<usize> {
    path.split('/').try_fold(0_usize, |depth, part| match part {
        "" | "." => Some(depth),
        ".." => depth.checked_sub(1),
        _ => Some(depth + 1),
    })
}

fn link_stays_inside(name: &str, target: &str) -> bool {
    let folder = name.trim_end_matches('/').rsplit_once('/').map_or("", |(folder, _)| folder);
    !target.starts_with('/')
        && !target.contains('\0')
        && depth(&format!("{folder}/{target}")).is_some()
}

/// The path without what means nothing: `a/./b/` is `a/b`.
fn plain(path: &str) -> String {
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    parts.collect::<Vec<_>>().join("/")
}

/// Links that stay inside one by one may lead out together, so nothing may be reached through one.
fn lies_behind(name: &str, links: &HashSet<String>) -> bool {
    let plain = plain(name);
    let folders = plain.char_indices().filter(|(_, c)| *c == '/').map(|(at, _)| &plain[..at]);
    !links.is_empty() && folders.into_iter().any(|folder| links.contains(folder))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    #[test]
    fn paths_and_links_must_stay_inside() {
        for good in ["a", "a/b", "./a", "a/../b", "dir/", "unit\\x2dname"] {
            assert!(is_inside(good), "{good}");
        }
        for bad in ["", "/a", "../a", "a/../../b", "a\0b"] {
            assert!(!is_inside(bad), "{bad}");
        }
        assert!(link_stays_inside("a/link", "../b"));
        assert!(!link_stays_inside("a/link", "../../b"));
        assert!(!link_stays_inside("link", "/etc/passwd"));
    }

    fn told(bytes: &[u8], limit: u64) -> String {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        match inspect(file, limit, Depth::Contents) {
            Ok(()) => "good".to_owned(),
            Err(refused) => refused.into_package_error().to_string(),
        }
    }

    fn zip(fill: impl FnOnce(&mut ZipWriter<std::io::Cursor<Vec<u8>>>)) -> Vec<u8> {
        let mut writer = ZipWriter::new(std::io::Cursor::new(Vec::new()));
        fill(&mut writer);
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn links_may_not_lead_out_together() {
        let options = SimpleFileOptions::default();
        let chained = zip(|zip| {
            zip.add_symlink("d/up", "..", options).unwrap();
            zip.add_symlink("out", "d/up/..", options).unwrap();
            zip.start_file("out/evil", options).unwrap();
        });
        let want = "The app upload is invalid: the path \"out/evil\" lies behind a link";
        assert_eq!(told(&chained, 1 << 20), want);
        let harmless = zip(|zip| {
            zip.start_file("lib/libx.so.1", options).unwrap();
            zip.add_symlink("lib/libx.so", "libx.so.1", options).unwrap();
        });
        assert_eq!(told(&harmless, 1 << 20), "good");
    }

    #[test]
    fn a_bomb_is_refused_whatever_it_claims() {
        let zeros = zip(|zip| {
            zip.start_file("zeros", SimpleFileOptions::default()).unwrap();
            zip.write_all(&vec![0; 3 << 20]).unwrap();
        });
        assert_eq!(told(&zeros, 4 << 20), "good");
        let want = "The app upload is invalid: unpacked it is larger than 2 MB";
        assert_eq!(told(&zeros, 2 << 20), want);
        // The same, with headers that say it is small.
        let mut liar = zeros;
        let size = u32::try_from(3 << 20).unwrap().to_le_bytes();
        let places: Vec<usize> =
            (0..liar.len() - 4).filter(|&at| liar[at..at + 4] == size).collect();
        assert!(!places.is_empty());
        for at in places {
            liar[at..at + 4].copy_from_slice(&100_u32.to_le_bytes());
        }
        let want = "The app upload is invalid: the file \"zeros\" is damaged";
        assert_eq!(told(&liar, 2 << 20), want);
    }

    #[test]
    fn damage_is_told_before_anybody_stages_it() {
        let options =
            SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        let mut whole = zip(|zip| {
            zip.start_file("run", options).unwrap();
            zip.write_all(b"content of run").unwrap();
        });
        let half = told(&whole[..whole.len() / 2], 1 << 20);
        assert!(
            half.starts_with("The app upload is invalid: it is no whole zip archive"),
            "{half}"
        );
        let at = whole.windows(7).position(|bytes| bytes == b"content").unwrap();
        whole[at] ^= 1;
        let want = "The app upload is invalid: the file \"run\" is damaged";
        assert_eq!(told(&whole, 1 << 20), want);
    }

    #[test]
    fn headers_are_counted_across_pieces() {
        let mut file = tempfile::tempfile().unwrap();
        let mut bytes = vec![0; (256 << 10) - 2];
        bytes.extend_from_slice(HEADER);
        bytes.extend_from_slice(&[0; 1000]);
        bytes.extend_from_slice(HEADER);
        file.write_all(&bytes).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        assert_eq!(headers(&mut file).unwrap(), 2);
    }
}
