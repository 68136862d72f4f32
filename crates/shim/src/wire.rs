//! Messages over the unix sockets between a shim and its platform: a length, then fields in order. Both ends are of
//! one build or of neighbouring ones: `VERSION` changes with every change of form, and a shim refuses what it does not know.

/// First byte of every message.
pub const VERSION: u8 = 2;
/// The longest message either side takes.
pub const LARGEST: usize = 8 << 20;

/// A value that can be written to and read from a message.
pub trait Wire: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn take(input: &mut &[u8]) -> Option<Self>;
}

macro_rules! number {
    ($($type:ty)+) => {$(
        impl Wire for $type {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn take(input: &mut &[u8]) -> Option<Self> {
                let (bytes, rest) = input.split_first_chunk()?;
                *input = rest;
                Some(<$type>::from_le_bytes(*bytes))
            }
        }
    )+};
}

number! { u8 u16 u32 u64 i32 }

impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        Some(u8::take(input)? != 0)
    }
}

/// Bytes in one piece.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl Wire for Blob {
    fn put(&self, out: &mut Vec<u8>) {
        (self.0.len() as u32).put(out);
        out.extend_from_slice(&self.0);
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        let length = u32::take(input)? as usize;
        let (bytes, rest) = input.split_at_checked(length)?;
        *input = rest;
        Some(Blob(bytes.to_vec()))
    }
}

impl Wire for String {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u32).put(out);
        out.extend_from_slice(self.as_bytes());
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        String::from_utf8(Blob::take(input)?.0).ok()
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u32).put(out);
        self.iter().for_each(|item| item.put(out));
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        let count = u32::take(input)?;
        (0..count).map(|_| T::take(input)).collect()
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        if bool::take(input)? { T::take(input).map(Some) } else { Some(None) }
    }
}

macro_rules! record {
    ($($(#[$meta:meta])* struct $name:ident { $($(#[$about:meta])* $field:ident: $type:ty,)+ })+) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name { $($(#[$about])* pub $field: $type,)+ }

        impl Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)+
            }

            fn take(input: &mut &[u8]) -> Option<Self> {
                Some($name { $($field: Wire::take(input)?,)+ })
            }
        }
    )+};
}

macro_rules! choice {
    ($($(#[$meta:meta])* enum $name:ident { $($(#[$about:meta])* $number:literal => $variant:ident($type:ty),)+ })+) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$about])* $variant($type),)+ }

        impl Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                match self { $($name::$variant(value) => { out.push($number); value.put(out); })+ }
            }

            fn take(input: &mut &[u8]) -> Option<Self> {
                match u8::take(input)? {
                    $($number => Wire::take(input).map($name::$variant),)+
                    _ => None,
                }
            }
        }
    )+};
}

impl Wire for () {
    fn put(&self, _: &mut Vec<u8>) {}

    fn take(_: &mut &[u8]) -> Option<Self> {
        Some(())
    }
}

record! {
    /// Makes a container; the first and only message on a shim's standard input.
    struct Start {
        isolation: Isolation,
        /// The container's folder on the host.
        dir: String,
        hostname: String,
        rootfs: Rootfs,
        /// Counts the kills for want of memory; a line `oom_kill N`.
        oom_file: Option<String>,
        /// What container root keeps, as a bit set.
        capabilities: u64,
        /// Seccomp programs, laid over each other in this order; each is raw `sock_filter`s.
        filters: Vec<Blob>,
        /// When the newer output file of a process has this many bytes it becomes the older.
        segment_bytes: u64,
    }

    struct Rootfs {
        /// Read-only folders rooted at `/`, the bottom first.
        layers: Vec<String>,
        /// The writable layer and overlayfs's own folder beside it.
        upper: String,
        work: String,
        binds: Vec<Bind>,
        /// Bound below `/sys/fs/cgroup`, read-only. One with the empty target is bound there itself.
        cgroups: Vec<Bind>,
    }

    struct Bind {
        source: String,
        target: String,
        writable: bool,
        /// Its files belong to the container's unshifted ids.
        shifted: bool,
    }

    struct Run {
        /// Names the folder for output and exit, which exists.
        index: u32,
        path: String,
        args: Vec<String>,
        env: Vec<String>,
        dir: String,
        user: String,
        nofile: u64,
        limits: Vec<Limit>,
        /// It gets a pipe to read from, whose other end can be asked for.
        stdin: bool,
        /// It runs on a terminal, which serves as its input too.
        tty: Option<Window>,
    }

    /// Of a terminal.
    struct Window {
        columns: u16,
        rows: u16,
    }

    /// One of the kernel's limits of a process, by its number.
    struct Limit {
        resource: u32,
        most: u64,
    }

    struct Resize {
        index: u32,
        window: Window,
    }

    struct Kill {
        index: u32,
        signal: i32,
    }

    /// Unpacks or packs an archive; its stream travels as a descriptor beside the message.
    struct Stream {
        path: String,
        user: String,
    }

    struct Refusal {
        /// One of the `REFUSED_` numbers.
        kind: u8,
        errno: i32,
        what: String,
    }
}

choice! {
    enum Request {
        1 => Run(Run),
        2 => Kill(Kill),
        /// A signal for every process; answered when none is left.
        3 => KillAll(i32),
        /// Which processes run.
        4 => List(()),
        5 => Unpack(Stream),
        6 => Pack(Stream),
        /// The writing end of a process's input, which travels as a descriptor beside the answer.
        7 => Input(u32),
        8 => CloseInput(u32),
        9 => Resize(Resize),
    }

    enum Reply {
        1 => Done(()),
        2 => Refused(Refusal),
        3 => Running(Vec<u32>),
    }

    /// How much there is between a container and its host.
    enum Isolation {
        /// No namespace at all.
        1 => Plain(()),
        /// Namespaces made without privilege; the value is the one id there is inside.
        2 => Rootless(u32),
        /// Every namespace, made by root. The value is the host's id for the container's root, 0 for a privileged one.
        3 => Full(u32),
    }
}

impl Default for Isolation {
    fn default() -> Isolation {
        Isolation::Plain(())
    }
}

pub const REFUSED_OTHER: u8 = 0;
pub const REFUSED_NO_PROGRAM: u8 = 1;
pub const REFUSED_NO_USER: u8 = 2;
pub const REFUSED_NO_FILE: u8 = 3;
pub const REFUSED_NO_PROCESS: u8 = 4;
pub const REFUSED_NO_INPUT: u8 = 5;

/// A message with its length and version before it.
pub fn encode<T: Wire>(message: &T) -> Vec<u8> {
    let mut out = vec![0, 0, 0, 0, VERSION];
    message.put(&mut out);
    let length = (out.len() - 4) as u32;
    out[..4].copy_from_slice(&length.to_le_bytes());
    out
}

/// How many bytes the message at the front of `bytes` has in all; `None` until that is known, an error when it is too long.
pub fn length(bytes: &[u8]) -> Result<Option<usize>, TooLong> {
    let Some(word) = bytes.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*word) as usize;
    if length > LARGEST { Err(TooLong) } else { Ok(Some(length + 4)) }
}

/// A message of more than [`LARGEST`] bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLong;

/// Reads a whole message; `None` when it is of another version or not of this form.
pub fn decode<T: Wire>(bytes: &[u8]) -> Option<T> {
    let mut rest = bytes.get(4..)?.strip_prefix(&[VERSION])?;
    let message = T::take(&mut rest)?;
    rest.is_empty().then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_back_and_nothing_else_does() {
        let run = Run {
            index: 7,
            path: "sh".into(),
            args: vec!["-c".into(), "true".into()],
            ..Run::default()
        };
        let request = Request::Run(run);
        let bytes = encode(&request);
        assert_eq!(length(&bytes), Ok(Some(bytes.len())));
        assert_eq!(decode::<Request>(&bytes), Some(request));
        assert_eq!(decode::<Request>(&bytes[..bytes.len() - 1]), None);
        let mut newer = bytes.clone();
        newer[4] = VERSION + 1;
        assert_eq!(decode::<Request>(&newer), None);
        assert_eq!(length(&[0, 0]), Ok(None));
        assert_eq!(length(&u32::MAX.to_le_bytes()), Err(TooLong));
    }

    #[test]
    fn a_start_reads_back() {
        let start = Start {
            isolation: Isolation::Full(65536),
            filters: vec![Blob(vec![1, 2])],
            ..Start::default()
        };
        assert_eq!(decode::<Start>(&encode(&start)), Some(start));
    }
}
