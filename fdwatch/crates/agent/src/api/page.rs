//! The web page at `/`, which gets its data from the API.

use axum::{
    extract::Path,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};

use super::response::error;

/// A script of the page.
macro_rules! script {
    ($name:literal) => {
        (
            concat!("/page/", $name),
            "text/javascript; charset=utf-8",
            include_str!(concat!("page/", $name)),
        )
    };
}

/// The files of the page: path, content type and content.
const FILES: &[(&str, &str, &str)] = &[
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

/// The content security policy: nothing is loaded from other hosts, and no other page can frame this one.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Returns whether `path` is a file of the page. These contain no data of this host.
pub(super) fn is_file(path: &str) -> bool {
    FILES.iter().any(|&(at, ..)| at == path)
}

/// `/`
pub(super) async fn index() -> Response {
    file("/")
}

/// `/page/{name}`
pub(super) async fn named(Path(name): Path<String>) -> Response {
    file(&format!("/page/{name}"))
}

fn file(path: &str) -> Response {
    let Some(&(_, kind, text)) = FILES.iter().find(|&&(at, ..)| at == path) else {
        return error(StatusCode::NOT_FOUND, "not found").into_response();
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
