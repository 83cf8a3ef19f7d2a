//! The page at `/`: what a browser is given, which then asks the API for all it shows.

use axum::{
    extract::Path,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};

use super::answer::error;

/// A part that is a script.
macro_rules! script {
    ($name:literal) => {
        (
            concat!("/page/", $name),
            "text/javascript; charset=utf-8",
            include_str!(concat!("page/", $name)),
        )
    };
}

/// The parts: where, of which type, and what.
const PARTS: &[(&str, &str, &str)] = &[
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("page/index.html"),
    ),
    (
        "/page/style.css",
        "text/css; charset=utf-8",
        include_str!("page/style.css"),
    ),
    script!("page.js"),
    script!("api.js"),
    script!("dom.js"),
    script!("findings.js"),
    script!("process.js"),
];

/// What a browser may do with it: nothing from elsewhere is loaded, and no one may put it in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Whether the path is one of the page's, in which there is nothing of this host.
pub(super) fn is_part(path: &str) -> bool {
    PARTS.iter().any(|&(at, ..)| at == path)
}

/// `/`
pub(super) async fn index() -> Response {
    part("/")
}

/// `/page/{name}`
pub(super) async fn named(Path(name): Path<String>) -> Response {
    part(&format!("/page/{name}"))
}

fn part(path: &str) -> Response {
    let Some(&(_, kind, text)) = PARTS.iter().find(|&&(at, ..)| at == path) else {
        return error(StatusCode::NOT_FOUND, "there is nothing here").into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let headers = headers
        .map(|(name, value): (HeaderName, &'static str)| (name, HeaderValue::from_static(value)));
    (HeaderMap::from_iter(headers), text).into_response()
}
