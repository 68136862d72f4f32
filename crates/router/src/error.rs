//! The router's own answers, as Cloud Foundry's router words them.

use axum::body::Body;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RouterError {
    EmptyHost,
    UnknownRoute { host: String },
    UnknownInstance,
    InvalidAppInstance,
    InvalidProcessInstance,
    ConnectionLimit,
    EndpointFailure(String),
    Timeout,
}

impl RouterError {
    pub(crate) fn status(&self) -> StatusCode {
        use RouterError::*;
        match self {
            EmptyHost | UnknownInstance | InvalidAppInstance | InvalidProcessInstance => {
                StatusCode::BAD_REQUEST
            }
            UnknownRoute { .. } => StatusCode::NOT_FOUND,
            ConnectionLimit => StatusCode::SERVICE_UNAVAILABLE,
            EndpointFailure(_) => StatusCode::BAD_GATEWAY,
            Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The value of `X-Cf-RouterError`.
    pub(crate) fn cause(&self) -> String {
        use RouterError::*;
        match self {
            EmptyHost => "empty_host".to_owned(),
            UnknownRoute { .. } | UnknownInstance => "unknown_route".to_owned(),
            InvalidAppInstance => "invalid_cf_app_instance_header".to_owned(),
            InvalidProcessInstance => "invalid_cf_process_instance_header".to_owned(),
            ConnectionLimit => "Connection Limit Reached".to_owned(),
            EndpointFailure(why) => format!("endpoint_failure ({why})"),
            Timeout => "endpoint_failure (timeout awaiting response headers)".to_owned(),
        }
    }

    fn message(&self) -> String {
        use RouterError::*;
        match self {
            EmptyHost => "Request had empty Host header".to_owned(),
            UnknownRoute { host } => format!("Requested route ('{host}') does not exist."),
            UnknownInstance => "Requested instance does not exist for this route.".to_owned(),
            InvalidAppInstance => "Invalid X-CF-App-Instance Header".to_owned(),
            InvalidProcessInstance => "Invalid X-CF-Process-Instance Header".to_owned(),
            ConnectionLimit => "Requested route has reached its connection limit.".to_owned(),
            EndpointFailure(_) | Timeout => {
                "Registered endpoint failed to handle the request.".to_owned()
            }
        }
    }

    fn cache_control(&self) -> &'static str {
        if *self == RouterError::EmptyHost { "public,max-age=2" } else { "no-cache, no-store" }
    }

    pub(crate) fn response(&self) -> Response<Body> {
        let status = self.status();
        let text = format!(
            "{} {}: {}\n",
            status.as_u16(),
            status.canonical_reason().unwrap_or_default(),
            self.message()
        );
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(self.cache_control()));
        headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
        let cause = HeaderValue::from_str(&self.cause())
            .unwrap_or(HeaderValue::from_static("unknown_failure"));
        headers.insert("x-cf-routererror", cause);
        response
    }
}
