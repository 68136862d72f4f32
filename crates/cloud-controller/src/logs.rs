//! Lines the API writes into an app's own log.

use std::sync::Arc;

use envelope::{Envelope, LogType, Source, Tags};

use crate::Cc;
use crate::bridge::explain;
use crate::errors::ApiError;

/// The names that go with an app wherever it is spoken of outside of this crate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppNames {
    pub app_guid: String,
    pub app_name: String,
    pub space_guid: String,
    pub space_name: String,
    pub org_guid: String,
    pub org_name: String,
}

impl AppNames {
    /// As Cloud Foundry tags logs and metrics.
    pub fn tags(&self) -> Tags {
        let pairs = [
            ("app_id", &self.app_guid),
            ("app_name", &self.app_name),
            ("space_id", &self.space_guid),
            ("space_name", &self.space_name),
            ("organization_id", &self.org_guid),
            ("organization_name", &self.org_name),
        ];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value.clone())).collect()
    }
}

impl Cc {
    /// `[API/0] OUT line` in the app's log.
    pub(crate) fn api_log(&self, app: &AppNames, line: &str) {
        self.app_log(app, "API", LogType::Out, line);
    }

    /// Whoever looks for the reason of a refusal looks into the app's log, where it stands with what to do.
    pub(crate) fn tell_refusal(
        &self,
        app: &AppNames,
        source_type: &str,
        what: &str,
        error: &ApiError,
    ) {
        let detail = error.to_string();
        let next = explain::refusal(&detail, &app.app_name).unwrap_or_default();
        let line = format!("{what}: {}. {next}", detail.trim_end_matches('.'));
        self.app_log(app, source_type, LogType::Err, line.trim_end());
    }

    pub(crate) fn app_log(&self, app: &AppNames, source_type: &str, stream: LogType, line: &str) {
        let source = Source {
            id: app.app_guid.as_str().into(),
            instance: "0".into(),
            tags: Arc::new(app.tags()),
        };
        self.sink.emit(Envelope::log(&source, source_type, stream, line.to_owned(), self.now()));
    }
}
