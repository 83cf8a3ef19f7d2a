//! Hints for errors of servers, agents and TLS: a line that starts with `help:`, or nothing.

use rustls::{CertificateError, Error as Tls, InvalidMessage};

/// Returns the hint for an error code of ClickHouse.
///
/// Codes are those of `src/Common/ErrorCodes.cpp`, the same from 18.16 to 26.9.
pub(super) const fn of_code(code: u32) -> &'static str {
    match code {
        // UNKNOWN_TABLE, UNKNOWN_DATABASE
        60 | 81 => "\nhelp: create the tables with: fdwatch fleet init",
        // READONLY, DATABASE_ACCESS_DENIED, ACCESS_DENIED
        164 | 291 | 497 => {
            "\nhelp: grant the privileges that this command prints: fdwatch fleet init --print-grants"
        }
        // UNKNOWN_USER, WRONG_PASSWORD, REQUIRED_PASSWORD, IP_ADDRESS_NOT_ALLOWED,
        // AUTHENTICATION_FAILED
        192..=195 | 516 => {
            "\nhelp: check --user and --password-file, or user and password_file in [fleet]"
        }
        _ => "",
    }
}

/// Returns the hint for a connection that failed or broke.
pub(super) fn of_connection(error: &reqwest::Error) -> &'static str {
    let is_plain = error.url().is_some_and(|url| url.scheme() == "http");
    let is_late = error.is_connect() && error.is_timeout();
    match tls(error) {
        Some(error) => of_tls(error),
        // A server that expects TLS closes the connection.
        None if is_plain && error.is_request() && !error.is_connect() && !error.is_timeout() => {
            "\nhelp: if the server expects TLS, use https://"
        }
        // A server without TLS may wait for the rest of what looks like a request.
        None if is_late && !is_plain => {
            "\nhelp: check that the server is running, the address is correct, and the port uses TLS"
        }
        None if error.is_connect() => {
            "\nhelp: check that the server is running and the address is correct"
        }
        None => "",
    }
}

const fn of_tls(error: &Tls) -> &'static str {
    match error {
        Tls::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => {
            "\nhelp: to trust the server, give its CA certificate with --ca-file, or ca_file in [fleet]"
        }
        Tls::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "\nhelp: use a host name for which the server's certificate is valid",
        Tls::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => "\nhelp: renew the server's certificate, or check the clocks of both hosts",
        Tls::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "\nhelp: this port does not use TLS; use http://, or the port for TLS"
        }
        _ => "",
    }
}

/// Returns the TLS error that caused this one, if any.
fn tls(error: &reqwest::Error) -> Option<&Tls> {
    use std::error::Error as _;
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // `io::Error` holds the TLS error without naming it as its source.
        let inner = error.downcast_ref::<std::io::Error>();
        if let Some(inner) = inner.and_then(std::io::Error::get_ref) {
            if let Some(found) = inner.downcast_ref() {
                return Some(found);
            }
            source = Some(inner);
            if inner.is::<std::io::Error>() {
                continue;
            }
        }
        source = source.and_then(std::error::Error::source);
    }
    None
}
