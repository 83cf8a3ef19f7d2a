//! Answers of the API: error objects, and content types.

use axum::{
    Json,
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use fdwatch_events::wire::{self, Object};

use super::query::Shape;

/// An error answer.
pub(super) type Refusal = (StatusCode, Json<Object<wire::Error>>);

/// Creates an error answer.
pub(super) fn error(status: StatusCode, reason: &str) -> Refusal {
    let error = reason.to_owned().into();
    (status, Json(Object::new(wire::Error { error })))
}

/// Creates the answer to an invalid request.
pub(super) fn bad(reason: impl AsRef<str>) -> Refusal {
    error(StatusCode::BAD_REQUEST, reason.as_ref())
}

/// Creates the answer to a request that failed for no fault of the client.
pub(super) fn internal(cause: impl ToString) -> Refusal {
    error(StatusCode::INTERNAL_SERVER_ERROR, &cause.to_string())
}

/// Creates an answer with the content type of `shape`.
pub(super) fn typed(shape: Shape, bytes: impl Into<Body>) -> Response {
    let kind = match shape {
        Shape::Json => "application/json",
        Shape::Lines => "application/x-ndjson",
        Shape::Text => "text/plain; charset=utf-8",
    };
    let kind = HeaderValue::from_static(kind);
    ([(header::CONTENT_TYPE, kind)], bytes.into()).into_response()
}
