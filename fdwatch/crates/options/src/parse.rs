//! Parsers of option values. Each error states the expected form.

use std::{str::FromStr as _, time::Duration};

use globset::{Glob, GlobSet, GlobSetBuilder};

/// Combines patterns into one set; returns `None` for no patterns.
///
/// # Errors
///
/// If the patterns are too large together.
pub fn globs(globs: &[Glob]) -> Result<Option<GlobSet>, globset::Error> {
    if globs.is_empty() {
        return Ok(None);
    }
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(glob.clone());
    }
    set.build().map(Some)
}

/// Parses a shell pattern, in which `*` also matches `/`.
///
/// # Errors
///
/// If the pattern is malformed.
pub fn glob(pattern: &str) -> Result<Glob, String> {
    Glob::new(pattern).map_err(|error| error.kind().to_string())
}

/// Parses a container id, or the beginning of one.
///
/// # Errors
///
/// If the pattern is malformed.
pub fn container_id(pattern: &str) -> Result<Glob, String> {
    glob(&format!("{pattern}*"))
}

/// Parses a PID, which is above 0.
///
/// # Errors
///
/// If the text is not one.
pub fn pid(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|&number| number > 0);
    number.ok_or_else(|| "expected a process ID such as 1234 (`pgrep NAME` prints it)".to_owned())
}

/// Parses a count.
///
/// # Errors
///
/// If the text is not a number.
pub fn count(text: &str) -> Result<usize, String> {
    text.parse()
        .map_err(|_| "expected a number such as 20".to_owned())
}

/// Parses an exit code of failure.
///
/// # Errors
///
/// If the text is not a number from 1 to 255.
pub fn exit_code(text: &str) -> Result<u8, String> {
    let code = text.parse().ok().filter(|&code| code > 0);
    code.ok_or_else(|| "expected an exit code from 1 to 255".to_owned())
}

/// Parses a duration such as `1h30m`; a day has 24 hours.
///
/// # Errors
///
/// If the text is not a duration, or the duration is zero.
pub fn duration(text: &str) -> Result<Duration, String> {
    let duration = jiff::Span::from_str(text)
        .and_then(|span| span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()))
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or("expected a duration such as 30s, 5m, 1h30m or 7d")?;
    if duration.is_zero() {
        return Err("the duration must not be zero".to_owned());
    }
    Ok(duration)
}

/// Parses a number of bytes such as `512K` or `64M`, by powers of 1,024; `None` if it is not one, or
/// exceeds 64 bits.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    let split = text.len() - usize::from(text.ends_with(['K', 'k', 'M', 'm', 'G', 'g', 'T', 't']));
    let shift = match text[split..].to_ascii_uppercase().as_str() {
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => 0,
    };
    let number: u64 = text[..split].parse().ok()?;
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_needs_a_unit_and_is_not_zero() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["", "5", "-5s", "0s", "1mo", "9999999999999h", "soon"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn size_over_64_bits_is_rejected() {
        assert_eq!(size("2T"), Some(2 << 40));
        assert_eq!(size("16777216T"), None);
    }

    #[test]
    fn invalid_number_error_names_expectation() {
        assert_eq!(pid("1234"), Ok(1234));
        for wrong in ["", "init", "0", "12a", "99999999999"] {
            assert!(pid(wrong).unwrap_err().contains("process ID"), "{wrong}");
        }
        assert_eq!(count("0"), Ok(0));
        assert!(count("few").unwrap_err().contains("number"));
        assert_eq!(exit_code("9"), Ok(9));
        for wrong in ["0", "256", "x"] {
            assert!(exit_code(wrong).is_err(), "{wrong}");
        }
    }
}
