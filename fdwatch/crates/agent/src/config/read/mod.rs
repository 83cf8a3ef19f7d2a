//! Parses the text of a configuration, and reports all errors in it with their positions.
//!
//! Pure: checks of files on the host are in `load`. The keys are defined where they are read, and in the commented
//! example.

mod diagnostics;
mod section;
mod sections;
#[cfg(test)]
mod tests;
mod value;
mod values;

use toml_edit::Document;

pub use self::diagnostics::ConfigError;
pub(super) use self::diagnostics::{FileKind, NamedFile, Reading};
use self::{diagnostics::Diagnostics, section::Section};
use super::types::Config;

/// Parses a configuration.
///
/// # Errors
///
/// All errors in it, in the order of their positions. If it is not valid TOML, only the first.
pub fn read(text: &[u8]) -> Result<Config, Vec<ConfigError>> {
    let reading = read_all(text)?;
    Ok(reading.config)
}

pub(super) fn read_all(text: &[u8]) -> Result<Reading, Vec<ConfigError>> {
    let (config, diagnostics) = read_with_diagnostics(text)?;
    diagnostics.reading(config)
}

/// Parses a configuration as far as possible, and returns it with its diagnostics.
fn read_with_diagnostics(text: &[u8]) -> Result<(Config, Diagnostics), Vec<ConfigError>> {
    let (text, wrong) = match std::str::from_utf8(text) {
        Ok(text) => (text, None),
        Err(error) => {
            let valid = &text[..error.valid_up_to()];
            (std::str::from_utf8(valid).unwrap_or(""), Some(valid.len()))
        }
    };
    let diagnostics = Diagnostics::new(text);
    if let Some(at) = wrong {
        diagnostics.error(at, "invalid UTF-8".to_owned());
        return Err(diagnostics.into_errors());
    }
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            diagnostics.error(at, format!("invalid TOML: {}", error.message()));
            return Err(diagnostics.into_errors());
        }
    };
    let config = sections::config(Section::root(document.as_table(), &diagnostics));
    Ok((config, diagnostics))
}
