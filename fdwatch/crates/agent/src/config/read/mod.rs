//! From the text of a configuration to what it says, or to all mistakes in it, each with its place.
//!
//! Pure: what only the host can say, such as whether a file is there, is asked in `load`. What keys
//! there are is written down nowhere else than where they are read, and in the commented example.

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

/// What a configuration says.
///
/// # Errors
///
/// All mistakes in it, in the order of their places: none is passed over. Where it is no TOML, only
/// the first that makes it none.
pub fn read(text: &[u8]) -> Result<Config, Vec<ConfigError>> {
    let reading = read_all(text)?;
    Ok(reading.config)
}

pub(super) fn read_all(text: &[u8]) -> Result<Reading, Vec<ConfigError>> {
    let (config, notes) = read_noting(text)?;
    notes.reading(config)
}

/// The configuration as far as it could be read, and what is to be said of it.
fn read_noting(text: &[u8]) -> Result<(Config, Diagnostics), Vec<ConfigError>> {
    let (text, wrong) = match std::str::from_utf8(text) {
        Ok(text) => (text, None),
        Err(error) => {
            let valid = &text[..error.valid_up_to()];
            (std::str::from_utf8(valid).unwrap_or(""), Some(valid.len()))
        }
    };
    let notes = Diagnostics::new(text);
    if let Some(at) = wrong {
        notes.mistake(at, "this is not UTF-8, as TOML must be".to_owned());
        return Err(notes.into_errors());
    }
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            notes.mistake(at, format!("this is not TOML: {}", error.message()));
            return Err(notes.into_errors());
        }
    };
    let config = sections::config(Section::root(document.as_table(), &notes));
    Ok((config, notes))
}
