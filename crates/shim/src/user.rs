//! Users of the container, looked up in its own files: the name services of the C library are not to be trusted there.
#![expect(unsafe_code, reason = "system calls")]

use std::os::fd::RawFd;

use crate::sys;

/// Who a process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

/// Reads `/etc/passwd` and `/etc/group` as they are in the current root.
pub fn find(user: &str) -> Option<User> {
    parse(user, &read("/etc/passwd"), &read("/etc/group"))
}

/// Pure: `user` is a name, or `uid[:gid]`. A number needs no line of its own.
fn parse(user: &str, passwd: &str, group: &str) -> Option<User> {
    let user = if user.is_empty() { "root" } else { user };
    let (name, group_part) =
        user.split_once(':').map_or((user, None), |(name, group)| (name, Some(group)));
    let number = name.parse::<u32>().ok();
    let line = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| {
        fields.len() >= 7
            && (fields[0] == name || number.is_some_and(|id| fields[2].parse() == Ok(id)))
    });
    let mut found = match (line, number) {
        (Some(fields), _) => User {
            name: fields[0].into(),
            uid: fields[2].parse().ok()?,
            gid: fields[3].parse().ok()?,
            groups: Vec::new(),
            home: fields[5].into(),
        },
        (None, Some(uid)) => {
            User { name: String::new(), uid, gid: uid, groups: Vec::new(), home: "/".into() }
        }
        (None, None) if name == "root" => {
            User { name: "root".into(), uid: 0, gid: 0, groups: vec![], home: "/root".into() }
        }
        (None, None) => return None,
    };
    let groups = || {
        group
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .filter(|fields| fields.len() >= 4)
    };
    if let Some(wanted) = group_part {
        let named = || {
            groups().find(|fields| fields[0] == wanted).and_then(|fields| fields[2].parse().ok())
        };
        found.gid = wanted.parse().ok().or_else(named)?;
    }
    let member = |fields: &Vec<&str>| {
        !found.name.is_empty() && fields[3].split(',').any(|member| member == found.name)
    };
    found.groups =
        groups().filter(member).filter_map(|fields| fields[2].parse().ok()).take(64).collect();
    Some(found)
}

/// At most 1 MiB of a regular file; nothing of anything else, so that a FIFO put in its place blocks nobody.
fn read(path: &str) -> String {
    const MOST: usize = 1 << 20;
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    let Ok(fd) = sys::open(libc::AT_FDCWD, path, flags, 0) else { return String::new() };
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    while is_file(fd) && bytes.len() < MOST {
        let got = sys::read(fd, &mut chunk);
        if got <= 0 {
            break;
        }
        bytes.extend_from_slice(&chunk[..got as usize]);
    }
    sys::close(fd);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is_file(fd: RawFd) -> bool {
    // SAFETY: all-zero is a valid value of this plain struct, which the call fills.
    unsafe {
        let mut about: libc::stat = std::mem::zeroed();
        libc::fstat(fd, &raw mut about) == 0 && about.st_mode & libc::S_IFMT == libc::S_IFREG
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nvcap:x:2000:2000::/home/vcap:/bin/sh\nbroken\n";
    const GROUP: &str = "root:x:0:\nvcap:x:2000:\nadm:x:4:root,vcap\nstaff:x:50:vcap\n";

    #[test]
    fn users_by_name_number_and_group() {
        let vcap = parse("vcap", PASSWD, GROUP).unwrap();
        assert_eq!((vcap.uid, vcap.gid, vcap.home.as_str()), (2000, 2000, "/home/vcap"));
        assert_eq!(vcap.groups, [4, 50]);
        assert_eq!(parse("2000", PASSWD, GROUP).unwrap().name, "vcap");
        assert_eq!(parse("2000:0", PASSWD, GROUP).unwrap().gid, 0);
        assert_eq!(parse("vcap:staff", PASSWD, GROUP).unwrap().gid, 50);
        assert_eq!(parse("77", PASSWD, GROUP).unwrap().home, "/");
        assert_eq!(parse("", "", "").unwrap().uid, 0);
        assert_eq!(parse("nobody", PASSWD, GROUP), None);
        assert_eq!(parse("vcap:nowhere", PASSWD, GROUP), None);
    }
}
