//! The one table of errors the public API answers with: name, code, status; and how an error becomes a response.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tracing::error;

pub type ApiResult<T> = Result<T, ApiError>;

macro_rules! table {
    ($($name:ident $code:literal $status:literal)+) => {
        /// What went wrong, by Cloud Foundry's names.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($name),+ }

        impl Kind {
            pub fn code(self) -> i64 {
                match self { $(Kind::$name => $code),+ }
            }

            pub fn name(self) -> &'static str {
                match self { $(Kind::$name => stringify!($name)),+ }
            }

            pub fn status(self) -> StatusCode {
                let status: u16 = match self { $(Kind::$name => $status),+ };
                StatusCode::from_u16(status).expect("the table holds valid statuses")
            }
        }
    };
}

table! {
    InvalidAuthToken 1000 401
    MessageParseError 1001 400
    BadRequest 1004 400
    NotFound 10000 404
    UnknownError 10001 500
    NotAuthenticated 10002 401
    NotAuthorized 10003 403
    InvalidRequest 10004 400
    BadQueryParameter 10005 400
    InsufficientScope 10007 403
    UnprocessableEntity 10008 422
    ResourceNotFound 10010 404
    RateLimitExceeded 10013 429
    ServiceUnavailable 10015 503
    UniquenessError 10016 422
    OrgSuspended 10017 403
    SpaceSuspended 10019 403
    ResourceBeingDeleted 10020 422
    UserNotFound 20003 404
    UaaUnavailable 20004 503
    UserIsInMultipleOrigins 20006 400
    OutOfRouterGroupPorts 21008 403
    UnbindableService 90005 400
    ServiceFetchBindingParametersNotSupported 90007 400
    ServiceFetchInstanceParametersNotSupported 120004 400
    RouteAlreadyBoundToServiceInstance 130007 400
    ServiceInstanceAlreadyBoundToSameRoute 130008 400
    AppPackageNotFound 150002 404
    InsufficientRunningResourcesAvailable 150003 503
    PackageBitsAlreadyUploaded 150004 400
    BlobstoreUnavailable 150006 502
    BlobstoreError 150007 500
    AppBitsUploadInvalid 160001 400
    StagingError 170001 400
    NoAppDetectedError 170003 400
    BuildpackCompileFailed 170004 400
    BuildpackReleaseFailed 170005 400
    NoBuildpacksFound 170006 400
    StagingTimeExpired 170007 504
    InsufficientResources 170008 400
    NoCompatibleCell 170009 400
    StagerUnavailable 170010 503
    StagerError 170011 500
    RunnerUnavailable 170015 503
    RunnerError 170016 500
    StagingInProgress 170017 422
    TaskError 170019 500
    TaskWorkersUnavailable 170020 503
    InvalidTaskRequest 170021 422
    StatsUnavailable 200002 503
    RouterGroupNotFound 210009 404
    InstancesUnavailable 220002 503
    StackValidationFailed 250004 422
    BuildpackNameStackLifecycleTaken 290000 422
    BuildpackInvalid 290003 400
    CustomBuildpacksDisabled 290004 400
    BuildpackLocked 290005 409
    SpaceDeletionFailed 290008 502
    OrganizationDeletionFailed 290010 502
    FeatureFlagNotFound 330000 404
    FeatureDisabled 330002 403
    RoutingApiDisabled 370003 403
    DropletUploadInvalid 380002 400
    ServiceInstanceDeletionSharesExists 390002 422
    BuildpackStacksDontMatch 390011 422
    BuildpackStackDoesNotExist 390012 422
    BuildpackZipError 390013 422
    DeploymentsDisabled 390014 403
    ScaleDisabledDuringDeployment 390016 422
    ProcessUpdateDisabledDuringDeployment 390017 422
    LabelLimitExceeded 390020 422
    AnnotationLimitExceeded 390023 422
    StopDisabledDuringDeployment 390024 422
}

impl Kind {
    /// `CF-` and the name; the one for the unforeseen stands alone.
    pub fn title(self) -> String {
        if self == Kind::UnknownError {
            "UnknownError".to_owned()
        } else {
            format!("CF-{}", self.name())
        }
    }

    pub fn with(self, detail: impl Into<String>) -> ApiError {
        ApiError(vec![(self, detail.into())])
    }
}

/// One or more errors; the first decides the status. Never empty.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", .0.iter().map(|(_, detail)| detail.as_str()).collect::<Vec<_>>().join("; "))]
pub struct ApiError(pub Vec<(Kind, String)>);

impl ApiError {
    /// 404 `App not found`; `what` is the resource's singular name as Cloud Foundry writes it.
    pub fn not_found(what: &str) -> ApiError {
        Kind::ResourceNotFound.with(format!("{what} not found"))
    }

    pub fn unknown_request() -> ApiError {
        Kind::NotFound.with("Unknown request")
    }

    pub fn unprocessable(detail: impl Into<String>) -> ApiError {
        Kind::UnprocessableEntity.with(detail)
    }

    /// Several problems of one message, each an error of its own (manifests).
    pub fn unprocessable_all(details: impl IntoIterator<Item = String>) -> ApiError {
        ApiError(details.into_iter().map(|detail| (Kind::UnprocessableEntity, detail)).collect())
    }

    pub fn bad_query(detail: &str) -> ApiError {
        Kind::BadQueryParameter.with(format!("The query parameter is invalid: {detail}"))
    }

    pub fn bad_request(detail: &str) -> ApiError {
        Kind::BadRequest.with(format!("Bad request: {detail}"))
    }

    pub fn invalid_request(detail: &str) -> ApiError {
        Kind::InvalidRequest.with(format!("The request is invalid: {detail}"))
    }

    pub fn forbidden() -> ApiError {
        Kind::NotAuthorized.with("You are not authorized to perform the requested action")
    }

    pub fn parse() -> ApiError {
        Kind::MessageParseError.with("Request invalid due to parse error: invalid request body")
    }

    /// 422 for a name or the like that another one has already.
    pub fn taken(detail: impl Into<String>) -> ApiError {
        Kind::UniquenessError.with(detail)
    }

    pub fn status(&self) -> StatusCode {
        self.0.first().map_or(StatusCode::INTERNAL_SERVER_ERROR, |(kind, _)| kind.status())
    }

    pub fn is(&self, kind: Kind) -> bool {
        self.0.iter().any(|(own, _)| *own == kind)
    }

    /// The list that stands under `errors`, in responses and in failed jobs.
    pub fn to_json(&self) -> Value {
        self.0
            .iter()
            .map(|(kind, detail)| json!({ "code": kind.code(), "title": kind.title(), "detail": detail }))
            .collect()
    }
}

impl From<anyhow::Error> for ApiError {
    /// What nobody foresaw: told to the operator, not to the caller.
    fn from(cause: anyhow::Error) -> ApiError {
        if cause.chain().any(is_full) {
            error!(error = %format!("{cause:#}"), "a request was refused, for the disk is full");
            return Kind::ServiceUnavailable.with(
                "The platform's disk is full, so nothing was changed. Its operator can see more with: cupola status",
            );
        }
        let is_away = |cause: &(dyn std::error::Error + 'static)| {
            cause.downcast_ref::<sqlx::Error>().is_some_and(sql::is_away)
        };
        if cause.chain().any(is_away) {
            error!(error = %format!("{cause:#}"), "a request was refused, for the database is out of reach");
            return Kind::ServiceUnavailable.with(
                "The platform's database is out of reach: try again in a moment. Its operator can see more with: cupola status",
            );
        }
        error!(error = %format!("{cause:#}"), "a request ended in an unforeseen error");
        Kind::UnknownError.with("An unknown error occurred.")
    }
}

/// Whether a cause says that there is no room on the platform's disk.
fn is_full(cause: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    let file = cause.downcast_ref::<std::io::Error>();
    file.is_some_and(|error| matches!(error.kind(), StorageFull | QuotaExceeded))
        || cause.downcast_ref::<sqlx::Error>().is_some_and(sql::is_full)
}

impl From<sqlx::Error> for ApiError {
    fn from(cause: sqlx::Error) -> ApiError {
        anyhow::Error::new(cause).context("asking the database").into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status(), Json(json!({ "errors": self.to_json() }))).into_response()
    }
}

/// Turns a unique key's refusal into `otherwise`, and leaves every other error as it is.
pub fn when_taken(cause: sqlx::Error, otherwise: ApiError) -> ApiError {
    if sql::is_taken(&cause) { otherwise } else { cause.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_and_other_causes_are_not() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let told = ApiError::from(anyhow::Error::new(full).context("writing a blob"));
        assert!(told.is(Kind::ServiceUnavailable) && told.to_string().contains("disk is full"));
        let other = std::io::Error::from(std::io::ErrorKind::NotFound);
        let told = ApiError::from(anyhow::Error::new(other).context("reading a blob"));
        assert!(told.is(Kind::UnknownError) && !told.to_string().contains("blob"));
    }
}
