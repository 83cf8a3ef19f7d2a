//! Answers of the API: error objects, and content types.

use axum::{
    Json,
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use super::query::Shape;
use fdwatch_render::SCHEMA;

/// An error answer.
pub(super) type Refusal = (StatusCode, Json<Value>);

/// Creates an error answer.
pub(super) fn error(status: StatusCode, reason: &str) -> Refusal {
    let body = json!({"schema": SCHEMA, "type": "error", "error": reason});
    (status, Json(body))
}

/// Creates the answer to an invalid request.
pub(super) fn bad(reason: impl AsRef<str>) -> Refusal {
    error(StatusCode::BAD_REQUEST, reason.as_ref())
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
