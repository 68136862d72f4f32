//! Labels and annotations in a request's body.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Fields;
use crate::db::metadata::MetadataPatch;
use crate::errors::{ApiResult, Kind};

impl Fields<'_> {
    /// `metadata`, checked.
    pub fn metadata(&mut self) -> MetadataPatch {
        let mut patch = MetadataPatch::default();
        let Some(metadata) = self.object("metadata") else { return patch };
        for (kind, value) in metadata {
            let Some(entries) = value.as_object() else {
                self.error(format!("Metadata '{kind}' is not an object"));
                continue;
            };
            match kind.as_str() {
                "labels" => self.entries("label", entries, 63, &mut patch.labels),
                "annotations" => self.entries("annotation", entries, 5000, &mut patch.annotations),
                _ => self.error(format!("Metadata has unexpected field(s): '{kind}'")),
            }
        }
        patch
    }

    fn entries(
        &mut self,
        kind: &str,
        entries: &Map<String, Value>,
        longest: usize,
        into: &mut BTreeMap<String, Option<String>>,
    ) {
        for (key, value) in entries {
            if let Err(why) = metadata_key(key) {
                self.error(format!("Metadata {kind} key error: {why}"));
                continue;
            }
            let text = match value {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            };
            let wrong = match &text {
                Some(text) if text.chars().count() > longest => {
                    Some(format!("'{text:.8}...' is greater than {longest} characters"))
                }
                Some(text) if kind == "label" && !text.is_empty() => metadata_name(text).err(),
                _ => None,
            };
            match wrong {
                Some(why) => self.error(format!("Metadata {kind} value error: {why}")),
                None => drop(into.insert(key.clone(), text)),
            }
        }
    }
}

/// How many labels and annotations a resource may have.
///
/// # Errors
/// 422 with a code of its own.
pub fn check_metadata_limits(patch: &MetadataPatch, limits: (usize, usize)) -> ApiResult<()> {
    let set = |entries: &BTreeMap<String, Option<String>>| entries.values().flatten().count();
    if set(&patch.labels) > limits.0 {
        return Err(Kind::LabelLimitExceeded.with(format!(
            "Failed to add labels because it would exceed maximum of {}",
            limits.0
        )));
    }
    if set(&patch.annotations) > limits.1 {
        let detail =
            format!("Failed to add annotations because it would exceed maximum of {}", limits.1);
        return Err(Kind::AnnotationLimitExceeded.with(detail));
    }
    Ok(())
}

fn metadata_key(key: &str) -> Result<(), String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if let Some(prefix) = prefix {
        let good = prefix.contains('.')
            && prefix.split('.').all(|part| {
                !part.is_empty()
                    && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                    && !part.starts_with('-')
                    && !part.ends_with('-')
            });
        if prefix.len() > 253 {
            return Err(format!("prefix '{prefix:.8}...' is greater than 253 characters"));
        }
        if prefix == "cloudfoundry.org" {
            return Err("prefix 'cloudfoundry.org' is reserved".to_owned());
        }
        if !good {
            return Err(format!("prefix '{prefix}' must be in valid dns format"));
        }
    }
    if name.is_empty() {
        return Err("key cannot be empty string".to_owned());
    }
    metadata_name(name)
}

fn metadata_name(name: &str) -> Result<(), String> {
    if name.len() > 63 {
        return Err(format!("'{name:.8}...' is greater than 63 characters"));
    }
    if let Some(c) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || "-_.".contains(*c))) {
        return Err(format!("'{name}' contains invalid character '{c}'"));
    }
    let ends = [name.chars().next(), name.chars().last()];
    if ends.iter().flatten().any(|c| !c.is_ascii_alphanumeric()) {
        return Err(format!("'{name}' starts or ends with invalid characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_keys_follow_their_rules() {
        for good in ["a", "example.com/a-b_c.d"] {
            metadata_key(good).unwrap();
        }
        for bad in
            ["", "-a", "a b", "cloudfoundry.org/a", "nodots/a", "example.com/", &"a".repeat(64)]
        {
            assert!(metadata_key(bad).is_err(), "{bad}");
        }
    }
}
