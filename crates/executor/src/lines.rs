//! Output becomes lines: split at line ends, cut to size, and counted so that reading can go on after a restart
//! where it ended, with no line lost and none twice.

use bytes::{Bytes, BytesMut};
use garden::{Output, Stream};

/// The longest line one envelope carries; the rest follows in the next.
pub(crate) const LONGEST: usize = 61_440;

/// Where reading goes on: from `from`, leaving out what was dealt with of either stream before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub from: u64,
    pub done: [u64; 2],
}

impl Position {
    pub fn from_bytes(bytes: [u8; 24]) -> Position {
        let word =
            |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        Position { from: word(0), done: [word(8), word(16)] }
    }

    /// The one that is further on. Reading never goes back.
    pub fn later(self, other: Position) -> Position {
        let reach = |position: &Position| (position.done[0] + position.done[1], position.from);
        if reach(&other) > reach(&self) { other } else { self }
    }

    pub fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        for (at, word) in [self.from, self.done[0], self.done[1]].into_iter().enumerate() {
            bytes[at * 8..at * 8 + 8].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// The lines of one process's two streams.
#[derive(Debug)]
pub(crate) struct Lines {
    streams: [Half; 2],
    /// The end of the last piece that came.
    end: u64,
}

#[derive(Debug, Default)]
struct Half {
    /// The beginning of a line whose end has not come.
    begun: BytesMut,
    /// Where in the whole output `begun` begins, and where the piece that holds its beginning does.
    begun_at: u64,
    piece_at: u64,
    /// What comes before was dealt with in an earlier life.
    done: u64,
}

impl Lines {
    pub fn after(position: Position) -> Lines {
        let half = |done| Half { done, ..Half::default() };
        Lines { streams: [half(position.done[0]), half(position.done[1])], end: position.from }
    }

    /// Takes a piece and appends the lines it completes to `lines`.
    pub fn take(&mut self, piece: Output, lines: &mut Vec<(Stream, Bytes)>) {
        let piece_at = std::mem::replace(&mut self.end, piece.end);
        let data_at = piece.end.saturating_sub(piece.data.len() as u64);
        if piece.lost > 0 {
            self.finish(lines);
            lines.push((
                Stream::Stderr,
                Bytes::from(format!("{} bytes of output were lost", piece.lost)),
            ));
        }
        let half = &mut self.streams[index(piece.stream)];
        let known = half.done.saturating_sub(data_at).min(piece.data.len() as u64);
        let fresh =
            piece.data.slice(usize::try_from(known).expect("not more than the piece holds")..);
        half.take(fresh, data_at + known, piece_at, |line| lines.push((piece.stream, line)));
    }

    /// What was begun counts as a line: nothing more will come.
    pub fn finish(&mut self, lines: &mut Vec<(Stream, Bytes)>) {
        for (half, stream) in self.streams.iter_mut().zip([Stream::Stdout, Stream::Stderr]) {
            if !half.begun.is_empty() {
                lines.push((stream, half.begun.split().freeze()));
            }
        }
    }

    pub fn position(&self) -> Position {
        let from = self
            .streams
            .iter()
            .filter(|half| !half.begun.is_empty())
            .map(|half| half.piece_at)
            .min();
        let done = |half: &Half| if half.begun.is_empty() { self.end } else { half.begun_at };
        Position {
            from: from.unwrap_or(self.end),
            done: [done(&self.streams[0]), done(&self.streams[1])],
        }
    }
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

impl Half {
    fn take(&mut self, mut data: Bytes, mut at: u64, piece_at: u64, mut line: impl FnMut(Bytes)) {
        while !data.is_empty() {
            let room = LONGEST - self.begun.len();
            let end = data.iter().take(room + 1).position(|byte| matches!(byte, b'\n' | b'\r'));
            if end.is_none() && data.len() <= room {
                if self.begun.is_empty() {
                    (self.begun_at, self.piece_at) = (at, piece_at);
                }
                self.begun.extend_from_slice(&data);
                return;
            }
            // A line end, which goes, or as much as one envelope holds.
            let (take, skip) = match end {
                Some(end) => (end, 1),
                None => (whole_letters(&data, room), 0),
            };
            let piece = data.split_to(take + skip);
            at += piece.len() as u64;
            if self.begun.is_empty() {
                if take > 0 {
                    line(piece.slice(..take));
                }
            } else {
                self.begun.extend_from_slice(&piece[..take]);
                line(self.begun.split().freeze());
            }
        }
    }
}

/// The most of `data` up to `most` that does not cut a UTF-8 letter in two; `data` is longer than `most`.
fn whole_letters(data: &[u8], most: usize) -> usize {
    let continues = |at: usize| data.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let cut = (0..4).find(|back| most > *back && !continues(most - back));
    cut.map_or(most, |back| most - back)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn piece(stream: Stream, end: u64, data: &[u8]) -> Output {
        Output { stream, data: Bytes::copy_from_slice(data), end, lost: 0 }
    }

    fn texts(lines: &[(Stream, Bytes)]) -> Vec<String> {
        lines.iter().map(|(_, line)| String::from_utf8_lossy(line).into_owned()).collect()
    }

    #[test]
    fn lines_end_at_line_ends_and_empty_ones_go() {
        let (mut lines, mut out) = (Lines::after(Position::default()), vec![]);
        lines.take(piece(Stream::Stdout, 5, b"one\nt"), &mut out);
        lines.take(piece(Stream::Stdout, 13, b"wo\r\n\n\nth"), &mut out);
        assert_eq!(texts(&out), ["one", "two"]);
        lines.finish(&mut out);
        assert_eq!(texts(&out), ["one", "two", "th"]);
    }

    #[test]
    fn long_lines_are_cut_between_letters() {
        let (mut lines, mut out) = (Lines::after(Position::default()), vec![]);
        let text = format!("x{}", "ä".repeat(LONGEST));
        lines.take(piece(Stream::Stdout, text.len() as u64, text.as_bytes()), &mut out);
        lines.finish(&mut out);
        assert_eq!(
            out.iter().map(|(_, line)| line.len()).collect::<Vec<_>>(),
            [LONGEST - 1, LONGEST, 2]
        );
        assert!(out.iter().all(|(_, line)| std::str::from_utf8(line).is_ok()));
        assert_eq!(texts(&out).concat(), text);
    }

    #[test]
    fn a_loss_is_told_in_its_place() {
        let (mut lines, mut out) = (Lines::after(Position::default()), vec![]);
        lines.take(piece(Stream::Stdout, 3, b"beg"), &mut out);
        lines.take(Output { lost: 7, ..piece(Stream::Stdout, 14, b"end\n") }, &mut out);
        assert_eq!(texts(&out), ["beg", "7 bytes of output were lost", "end"]);
    }

    fn some_output() -> impl Strategy<Value = Vec<(bool, Vec<u8>)>> {
        let bytes = prop::collection::vec(prop::sample::select(b"ab\n".as_slice()), 1..12);
        prop::collection::vec((any::<bool>(), bytes), 1..20)
    }

    /// All pieces of `output` after `from`, as garden would hand them over.
    fn pieces(output: &[(bool, Vec<u8>)], from: u64) -> Vec<Output> {
        let mut end = 0;
        let stream = |first| if first { Stream::Stdout } else { Stream::Stderr };
        let all = output.iter().map(|(first, data)| {
            end += data.len() as u64;
            piece(stream(*first), end, data)
        });
        all.filter(|piece| piece.end > from).collect()
    }

    fn of(lines: &[(Stream, Bytes)], stream: Stream) -> Vec<Bytes> {
        lines.iter().filter(|(from, _)| *from == stream).map(|(_, line)| line.clone()).collect()
    }

    proptest! {
        #[test]
        fn an_interruption_neither_loses_nor_doubles(output in some_output(), cut in any::<prop::sample::Index>()) {
            let (mut whole, mut want) = (Lines::after(Position::default()), vec![]);
            pieces(&output, 0).into_iter().for_each(|piece| whole.take(piece, &mut want));
            whole.finish(&mut want);

            let (mut first, mut got) = (Lines::after(Position::default()), vec![]);
            pieces(&output, 0).into_iter().take(cut.index(output.len())).for_each(|piece| first.take(piece, &mut got));
            let position = Position::from_bytes(first.position().to_bytes());
            let mut second = Lines::after(position);
            pieces(&output, position.from).into_iter().for_each(|piece| second.take(piece, &mut got));
            second.finish(&mut got);

            for stream in [Stream::Stdout, Stream::Stderr] {
                prop_assert_eq!(of(&got, stream), of(&want, stream));
            }
        }
    }
}
