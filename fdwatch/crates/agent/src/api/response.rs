//! Responses of the API: error objects, and content types.

use axum::{
    Json,
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use fdwatch_events::wire::{self, Object};

use super::query::Shape;

/// An error response.
pub(super) type ErrorResponse = (StatusCode, Json<Object<wire::Error>>);

/// Creates an error response.
pub(super) fn error(status: StatusCode, reason: &str) -> ErrorResponse {
    let error = reason.to_owned().into();
    (status, Json(Object::new(wire::Error { error })))
}

/// Creates the response to an invalid request.
pub(super) fn bad_request(reason: impl AsRef<str>) -> ErrorResponse {
    error(StatusCode::BAD_REQUEST, reason.as_ref())
}

/// Creates the response to a valid request that failed.
pub(super) fn internal(cause: impl ToString) -> ErrorResponse {
    error(StatusCode::INTERNAL_SERVER_ERROR, &cause.to_string())
}

/// Creates a response with the content type of `shape`.
pub(super) fn typed(shape: Shape, bytes: impl Into<Body>) -> Response {
    let kind = match shape {
        Shape::Json => "application/json",
        Shape::Lines => "application/x-ndjson",
        Shape::Text => "text/plain; charset=utf-8",
    };
    let kind = HeaderValue::from_static(kind);
    ([(header::CONTENT_TYPE, kind)], bytes.into()).into_response()
}
