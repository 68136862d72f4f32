//! Gives a certificate another subject: one with several names of the same kind. DER, just as much as it takes.

use anyhow::Context as _;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const UTF8: u8 = 0x0c;
const BITS: u8 = 0x03;
/// Where the subject is in what is signed: after version, serial, algorithm, issuer and validity.
const SUBJECT: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    CommonName,
    Unit,
}

/// The same certificate of somebody else. `sign` signs as its issuer, in the algorithm it names.
pub(super) fn rename(
    certificate: &[u8],
    subject: &[(Kind, String)],
    sign: impl FnOnce(&[u8]) -> anyhow::Result<Vec<u8>>,
) -> anyhow::Result<Vec<u8>> {
    let odd = "a certificate of another form than expected";
    let parts = elements(element(certificate).context(odd)?.content).context(odd)?;
    let [signed, algorithm, _signature] = parts[..] else { anyhow::bail!(odd) };
    let fields = elements(element(signed).context(odd)?.content).context(odd)?;
    anyhow::ensure!(fields.len() > SUBJECT, odd);
    let name = name(subject);
    let fields = fields.iter().enumerate();
    let fields: Vec<u8> = fields
        .flat_map(|(nth, field)| if nth == SUBJECT { name.as_slice() } else { field })
        .copied()
        .collect();
    let signed = wrap(SEQUENCE, &fields);
    let signature = wrap(BITS, &[&[0], &sign(&signed)?[..]].concat());
    Ok(wrap(SEQUENCE, &[&signed, algorithm, &signature].concat()))
}

fn name(subject: &[(Kind, String)]) -> Vec<u8> {
    let part = |(kind, text): &(Kind, String)| {
        // 2.5.4.3 and 2.5.4.11
        let last = match kind {
            Kind::CommonName => 3,
            Kind::Unit => 11,
        };
        let pair = [wrap(OID, &[0x55, 4, last]), wrap(UTF8, text.as_bytes())].concat();
        wrap(SET, &wrap(SEQUENCE, &pair))
    };
    wrap(SEQUENCE, &subject.iter().flat_map(part).collect::<Vec<u8>>())
}

struct Element<'a> {
    whole: &'a [u8],
    content: &'a [u8],
    rest: &'a [u8],
}

fn element(der: &[u8]) -> Option<Element<'_>> {
    let (first, front) = match usize::from(*der.get(1)?) {
        short @ ..0x80 => (short, 2),
        long => {
            let bytes = der.get(2..2 + (long & 0x7f))?;
            let length = bytes.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
            (length, 2 + bytes.len())
        }
    };
    let whole = der.get(..front.checked_add(first)?)?;
    Some(Element { whole, content: &whole[front..], rest: &der[whole.len()..] })
}

fn elements(mut der: &[u8]) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    while !der.is_empty() {
        let next = element(der)?;
        found.push(next.whole);
        der = next.rest;
    }
    Some(found)
}

fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match u8::try_from(length) {
        Ok(short @ ..0x80) => out.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
            out.push(0x80 | u8::try_from(bytes.len()).expect("a length has eight bytes at most"));
            out.extend_from_slice(bytes);
        }
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_every_size_come_back() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let content = vec![7; length];
            let mut der = wrap(SEQUENCE, &content);
            assert_eq!(element(&der).unwrap().content, content);
            der.extend([5, 0]);
            assert_eq!(elements(&der).unwrap().len(), 2);
            der.pop();
            assert!(elements(&der).is_none(), "cut off at {length}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        for odd in [&[][..], &[0x30], &[0x30, 0x80], &[0x30, 2, 5, 0], &[0x30, 0xff, 1]] {
            assert!(rename(odd, &[], |_| Ok(vec![])).is_err(), "{odd:?}");
        }
    }
}
