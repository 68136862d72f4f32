//! The form of an output file: a header that says where in the whole output it begins, then frames, each one piece of
//! one stream. Positions count payload bytes of both streams since the process began.

/// Before the first frame of a file: `MAGIC`, then the position of its first byte.
pub const HEADER: usize = 16;
/// Before each piece: one word, its length with the stream in the top bit.
pub const FRAME: usize = 4;
/// No piece is longer.
pub const LARGEST: usize = 1 << 16;

const MAGIC: [u8; 8] = *b"cupout01";
const STDERR: u32 = 1 << 31;

pub fn header(start: u64) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..].copy_from_slice(&start.to_le_bytes());
    bytes
}

/// Where the file begins; `None` when it is not an output file or not all of its header is there yet.
pub fn start(bytes: &[u8]) -> Option<u64> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    Some(u64::from_le_bytes(rest.get(..8)?.try_into().ok()?))
}

pub fn frame(stderr: bool, length: usize) -> [u8; FRAME] {
    let length = u32::try_from(length).unwrap_or(u32::MAX >> 1);
    (if stderr { length | STDERR } else { length }).to_le_bytes()
}

/// The first frame in `bytes` as (is stderr, length); `None` until its word is whole.
pub fn parse(bytes: &[u8]) -> Option<(bool, usize)> {
    let word = u32::from_le_bytes(bytes.get(..FRAME)?.try_into().ok()?);
    Some((word & STDERR != 0, (word & !STDERR) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_frames_read_back() {
        assert_eq!(start(&header(77)), Some(77));
        assert_eq!(start(&header(77)[..15]), None);
        assert_eq!(start(b"something else.."), None);
        assert_eq!(parse(&frame(true, 5)), Some((true, 5)));
        assert_eq!(parse(&frame(false, LARGEST)), Some((false, LARGEST)));
        assert_eq!(parse(&[1, 2, 3]), None);
    }
}
