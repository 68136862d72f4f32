//! Basic authentication against the lines of an `htpasswd` file.

use std::cell::RefCell;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use sha1::{Digest as _, Sha1};

#[derive(Debug, Default)]
pub struct Users {
    users: Vec<(String, Secret)>,
    /// The last header that was right: slow schemes are slow by design, and browsers send it with each request.
    last: RefCell<Option<String>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Secret {
    Apr1 { salt: String, hash: String },
    Bcrypt(String),
    Sha1(Vec<u8>),
    SaltedSha1 { hash: Vec<u8>, salt: Vec<u8> },
    Plain(String),
}

impl Users {
    /// Refuses schemes it cannot check, rather than lock everybody out at run time.
    pub fn parse(text: &str) -> Result<Users> {
        let lines =
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let read = |line: &str| {
            let (name, secret) = line.split_once(':').context("a line is no name:password pair")?;
            let secret =
                Secret::parse(secret).with_context(|| format!("the password of {name}"))?;
            Ok((name.to_owned(), secret))
        };
        Ok(Users { users: lines.map(read).collect::<Result<_>>()?, last: RefCell::default() })
    }

    /// Whether `header`, the value of `Authorization`, names one of the users.
    pub fn admit(&self, header: &str) -> bool {
        if self.last.borrow().as_deref() == Some(header) {
            return true;
        }
        let admitted = credentials(header).is_some_and(|(name, password)| {
            self.users.iter().any(|(known, secret)| *known == name && secret.matches(&password))
        });
        if admitted {
            self.last.replace(Some(header.to_owned()));
        }
        admitted
    }
}

fn credentials(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    let decoded =
        STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let text = String::from_utf8(decoded).ok()?;
    text.split_once(':').map(|(name, password)| (name.to_owned(), password.to_owned()))
}

impl Secret {
    fn parse(text: &str) -> Result<Secret> {
        if let Some(rest) = text.strip_prefix("$apr1$") {
            let (salt, hash) = rest.split_once('$').context("an apr1 hash without a salt")?;
            return Ok(Secret::Apr1 {
                salt: salt.chars().take(8).collect(),
                hash: hash.to_owned(),
            });
        }
        if ["$2y$", "$2a$", "$2b$"].iter().any(|prefix| text.starts_with(prefix)) {
            return Ok(Secret::Bcrypt(text.to_owned()));
        }
        if let Some(encoded) = text.strip_prefix("{SHA}") {
            return Ok(Secret::Sha1(
                STANDARD.decode(encoded).context("a {SHA} hash that is no base64")?,
            ));
        }
        if let Some(encoded) = text.strip_prefix("{SSHA}") {
            let mut hash = STANDARD.decode(encoded).context("a {SSHA} hash that is no base64")?;
            let salt = hash.split_off(hash.len().min(20));
            return Ok(Secret::SaltedSha1 { hash, salt });
        }
        if let Some(plain) = text.strip_prefix("{PLAIN}") {
            return Ok(Secret::Plain(plain.to_owned()));
        }
        bail!(
            "is of an unsupported kind: make it with `htpasswd -m` (apr1) or `htpasswd -B` (bcrypt)"
        )
    }

    fn matches(&self, password: &str) -> bool {
        match self {
            Secret::Apr1 { salt, hash } => {
                same(apr1(password.as_bytes(), salt.as_bytes()).as_bytes(), hash.as_bytes())
            }
            Secret::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Secret::Sha1(hash) => same(&Sha1::digest(password.as_bytes()), hash),
            Secret::SaltedSha1 { hash, salt } => {
                same(&Sha1::digest([password.as_bytes(), salt].concat()), hash)
            }
            Secret::Plain(plain) => same(password.as_bytes(), plain.as_bytes()),
        }
    }
}

/// Compares without telling by its duration where the difference is.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// Apache's variant of MD5-crypt, which `htpasswd` writes unless told otherwise; only the part after the salt.
fn apr1(password: &[u8], salt: &[u8]) -> String {
    let digest = |parts: &[&[u8]]| -> [u8; 16] { Md5::digest(parts.concat()).into() };
    let inner = digest(&[password, salt, password]);
    let mut first = [password, b"$apr1$", salt].concat();
    first.extend(inner.iter().cycle().take(password.len()));
    let mut bits = password.len();
    while bits > 0 {
        first.push(if bits & 1 == 1 { 0 } else { password[0] });
        bits >>= 1;
    }
    let mut hash = digest(&[&first]);
    for round in 0..1000 {
        let odd = round % 2 == 1;
        let mut parts: Vec<&[u8]> = vec![if odd { password } else { &hash }];
        if round % 3 != 0 {
            parts.push(salt);
        }
        if round % 7 != 0 {
            parts.push(password);
        }
        parts.push(if odd { &hash } else { password });
        hash = digest(&parts);
    }
    const ORDER: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
    const LETTERS: &[u8] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = String::new();
    let mut push = |mut value: u32, letters: usize| {
        for _ in 0..letters {
            text.push(LETTERS[(value & 63) as usize].into());
            value >>= 6;
        }
    };
    for [a, b, c] in ORDER {
        push(u32::from(hash[a]) << 16 | u32::from(hash[b]) << 8 | u32::from(hash[c]), 4);
    }
    push(u32::from(hash[11]), 2);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(line: &str, name: &str, password: &str) -> bool {
        let header = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
        Users::parse(line).unwrap().admit(&header)
    }

    const LINES: [&str; 3] = [
        "bob:$apr1$vTyGHvE4$Mz/6g.6sl9IXA.gT82qLo/",
        "bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
        "bob:{PLAIN}password",
    ];

    #[test]
    fn each_scheme_knows_its_password() {
        for line in LINES {
            assert!(admits(line, "bob", "password"), "{line}");
            assert!(!admits(line, "bob", "Password"), "{line}");
            assert!(!admits(line, "eve", "password"), "{line}");
        }
        let bcrypt = format!("bob:{}", bcrypt::hash("password", 4).unwrap());
        assert!(admits(&bcrypt, "bob", "password") && !admits(&bcrypt, "bob", "other"));
        let salted = STANDARD.encode([&Sha1::digest(b"passwordsalt")[..], b"salt"].concat());
        assert!(admits(&format!("bob:{{SSHA}}{salted}"), "bob", "password"));
    }

    #[test]
    fn apr1_is_what_openssl_makes() {
        assert_eq!(apr1(b"a", b"12345678"), "68ZQVfPkWX/wcXr/41VxQ.");
        assert_eq!(apr1(b"correct-horse-battery-staple", b"xy"), "vOJFjaMHoTYV6Uuz93BD9/");
    }

    #[test]
    fn an_unknown_scheme_is_refused_by_name() {
        let error = Users::parse("bob:$6$salt$hash").unwrap_err();
        assert!(
            format!("{error:#}").starts_with("the password of bob: is of an unsupported kind"),
            "{error:#}"
        );
    }
}
