//! What to do about it, by what a server, an agent or TLS said. Nothing here asks or decides anything.

use rustls::{CertificateError, Error as Tls, InvalidMessage};

/// Of what a server refused, by its code.
///
/// Codes are those of ClickHouse (`src/Common/ErrorCodes.cpp`), the same from 18.16 to 26.9.
pub(super) const fn of_code(code: u32) -> &'static str {
    match code {
        // UNKNOWN_TABLE, UNKNOWN_DATABASE
        60 | 81 => ". Make its tables: fdwatch fleet init",
        // READONLY, DATABASE_ACCESS_DENIED, ACCESS_DENIED
        164 | 291 | 497 => {
            ". This user may not do that: fdwatch fleet init --print-grants tells what is needed"
        }
        // UNKNOWN_USER, WRONG_PASSWORD, REQUIRED_PASSWORD, IP_ADDRESS_NOT_ALLOWED,
        // AUTHENTICATION_FAILED
        192..=195 | 516 => {
            ". See who it knows: --user and --password-file, or user and password_file in [fleet]"
        }
        _ => "",
    }
}

/// Of a connection that there was none of, or that broke.
pub(super) fn of_connection(error: &reqwest::Error) -> &'static str {
    let is_plain = error.url().is_some_and(|url| url.scheme() == "http");
    let is_late = error.is_connect() && error.is_timeout();
    match tls(error) {
        Some(error) => of_tls(error),
        // A server that wants TLS hangs up.
        None if is_plain && error.is_request() && !error.is_connect() && !error.is_timeout() => {
            ". If it wants TLS there, say https://"
        }
        // A server without TLS may wait for the rest of what it takes for a request.
        None if is_late && !is_plain => {
            ". Does it run, is this where it answers, and does it speak TLS there?"
        }
        None if error.is_connect() => ". Does it run, and is this where it answers?",
        None => "",
    }
}

const fn of_tls(error: &Tls) -> &'static str {
    match error {
        Tls::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => {
            ". If it is to be trusted, name the certificate of who signed it: --ca-file, or ca_file in \
             [fleet]"
        }
        Tls::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => ". Say a name that its certificate is for",
        Tls::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => ". Have its certificate renewed, or see whether the clocks are right",
        Tls::InvalidMessage(InvalidMessage::InvalidContentType) => {
            ". It does not speak TLS there: say http://, or the port where it does"
        }
        _ => "",
    }
}

/// What TLS said, if it is what went wrong.
fn tls(error: &reqwest::Error) -> Option<&Tls> {
    use std::error::Error as _;
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // It is in one, and not the source of it.
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
