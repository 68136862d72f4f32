//! Documents with their guids numbered in the order they appear, so that a whole one can be expected.

use serde_json::Value;

fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.char_indices().all(|(at, c)| {
            if matches!(at, 8 | 13 | 18 | 23) { c == '-' } else { c.is_ascii_hexdigit() }
        })
}

/// Pretty JSON with `<1>`, `<2>`, … in place of guids.
pub fn shape(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value).unwrap();
    let (mut seen, mut out, mut rest) = (Vec::<String>::new(), String::new(), text.as_str());
    while !rest.is_empty() {
        match rest.get(..36).filter(|text| is_guid(text)) {
            Some(guid) => {
                let at = seen.iter().position(|other| other == guid).unwrap_or_else(|| {
                    seen.push(guid.to_owned());
                    seen.len() - 1
                });
                out.push_str(&format!("<{}>", at + 1));
                rest = &rest[36..];
            }
            None => {
                let c = rest.chars().next().unwrap();
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    out
}
