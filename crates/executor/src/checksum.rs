//! What a file must look like.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

/// A promised digest, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Checksum {
    algorithm: Algorithm,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Algorithm {
    Md5,
    Sha1,
    Sha256,
    Sha512,
}

impl Checksum {
    /// `None` when nothing was promised.
    pub fn parse(algorithm: &str, value: &str) -> anyhow::Result<Option<Checksum>> {
        let (algorithm, digits) = match algorithm.to_ascii_lowercase().as_str() {
            "" if value.is_empty() => return Ok(None),
            "md5" => (Algorithm::Md5, 32),
            "sha1" => (Algorithm::Sha1, 40),
            "sha256" => (Algorithm::Sha256, 64),
            "sha512" => (Algorithm::Sha512, 128),
            other => bail!("checksum algorithm {other:?} is not known"),
        };
        ensure!(
            value.len() == digits && value.bytes().all(|digit| digit.is_ascii_hexdigit()),
            "checksum is no digest"
        );
        Ok(Some(Checksum { algorithm, value: value.to_ascii_lowercase() }))
    }

    /// Fits in a file name.
    pub fn name(&self) -> String {
        let algorithm = match self.algorithm {
            Algorithm::Md5 => "md5",
            Algorithm::Sha1 => "sha1",
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        };
        format!("{algorithm}-{}", self.value)
    }

    /// The digest, when it is one by which content is known.
    pub fn sha256(&self) -> Option<&str> {
        (self.algorithm == Algorithm::Sha256).then_some(&self.value)
    }

    pub fn is_sha256(&self, digest: &str) -> bool {
        self.algorithm == Algorithm::Sha256 && self.value == digest
    }

    pub fn verify(&self, path: &Path) -> anyhow::Result<()> {
        let file =
            std::fs::File::open(path).with_context(|| format!("reading {}", path.display()))?;
        let found = match self.algorithm {
            Algorithm::Md5 => hex(&md5_of(file)?),
            Algorithm::Sha1 => digest::<Sha1>(file)?,
            Algorithm::Sha256 => digest::<Sha256>(file)?,
            Algorithm::Sha512 => digest::<Sha512>(file)?,
        };
        ensure!(found == self.value, "checksum is {found}, not {}", self.value);
        Ok(())
    }
}

/// What an upload promises of its body.
pub(crate) struct Digests {
    pub md5: [u8; 16],
    pub sha256: [u8; 32],
}

pub(crate) fn digests(mut file: impl Read) -> std::io::Result<Digests> {
    use md5::Digest as _;
    let (mut md5, mut sha256) = (Md5::new(), Sha256::new());
    each_piece(&mut file, |piece| {
        md5.update(piece);
        sha256.update(piece);
    })?;
    Ok(Digests { md5: md5.finalize().into(), sha256: sha256.finalize().into() })
}

fn digest<D: Digest>(mut file: impl Read) -> std::io::Result<String> {
    let mut digest = D::new();
    each_piece(&mut file, |piece| digest.update(piece))?;
    Ok(hex(&digest.finalize()))
}

fn md5_of(mut file: impl Read) -> std::io::Result<[u8; 16]> {
    use md5::Digest as _;
    let mut digest = Md5::new();
    each_piece(&mut file, |piece| digest.update(piece))?;
    Ok(digest.finalize().into())
}

fn each_piece(file: &mut impl Read, mut take: impl FnMut(&[u8])) -> std::io::Result<()> {
    let mut piece = vec![0; 64 * 1024];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(()),
            length => take(&piece[..length]),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_its_promise_or_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hello").unwrap();
        let promise = |algorithm, value| {
            Checksum::parse(algorithm, value).unwrap().unwrap().verify(file.path())
        };
        promise("md5", "5d41402abc4b2a76b9719d911017c592").unwrap();
        promise("sha1", "AAF4C61DDCC5E8A2DABEDE0F3B482CD9AEA9434D").unwrap();
        promise("sha256", "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")
            .unwrap();
        assert!(promise("md5", "00000000000000000000000000000000").is_err());
        assert_eq!(Checksum::parse("", "").unwrap(), None);
        assert!(
            Checksum::parse("crc", "1").is_err() && Checksum::parse("md5", "../../etc").is_err()
        );
    }
}
