//! Whose a container is: written into the tags that the executor carries for us.

use std::collections::BTreeMap;

use diego::{InstanceGuid, LrpKey, TaskGuid};
use executor::OwnerTags;
use garden::Handle;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Lrp {
        key: LrpKey,
        instance_guid: InstanceGuid,
        /// What is said when its process ends without an error.
        log_source: String,
    },
    Task {
        guid: TaskGuid,
        result_file: String,
        /// How often it was rejected before: see `diego::task::Attempt`.
        rejections: u32,
    },
}

impl Owner {
    pub fn tags(&self) -> OwnerTags {
        let pairs = match self {
            Owner::Lrp { key, instance_guid, log_source } => vec![
                ("lifecycle", "lrp".to_owned()),
                ("process-guid", key.process_guid.to_string()),
                ("process-index", key.index.to_string()),
                ("domain", key.domain.to_string()),
                ("instance-guid", instance_guid.to_string()),
                ("log-source", log_source.clone()),
            ],
            Owner::Task { guid, result_file, rejections } => vec![
                ("lifecycle", "task".to_owned()),
                ("task-guid", guid.to_string()),
                ("result-file", result_file.clone()),
                ("rejections", rejections.to_string()),
            ],
        };
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// `None` for containers of somebody else.
    pub fn of(tags: &BTreeMap<String, String>) -> Option<Owner> {
        let text = |name: &str| tags.get(name).cloned();
        match tags.get("lifecycle")?.as_str() {
            "lrp" => Some(Owner::Lrp {
                key: LrpKey {
                    process_guid: text("process-guid")?.into(),
                    index: text("process-index")?.parse().ok()?,
                    domain: text("domain")?.into(),
                },
                instance_guid: text("instance-guid")?.into(),
                log_source: text("log-source")?,
            }),
            "task" => Some(Owner::Task {
                guid: text("task-guid")?.into(),
                result_file: text("result-file")?,
                // Containers of an older program do not say.
                rejections: text("rejections").map_or(Ok(0), |count| count.parse()).ok()?,
            }),
            _ => None,
        }
    }
}

/// An instance's container is named for the instance, a task's for the task.
pub(crate) fn handle(guid: impl AsRef<str>) -> Handle {
    Handle::from(guid.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_back() {
        let key = LrpKey { process_guid: "p".into(), index: 3, domain: "d".into() };
        let lrp = Owner::Lrp { key, instance_guid: "i".into(), log_source: "APP".into() };
        let task = Owner::Task { guid: "t".into(), result_file: "/r".into(), rejections: 2 };
        for owner in [lrp, task] {
            assert_eq!(Owner::of(&owner.tags()), Some(owner));
        }
        assert_eq!(Owner::of(&BTreeMap::new()), None);
    }
}
