//! Conversions of values: the numbers, sizes, booleans and lists of supervisor/datatypes.py.

use crate::ini::{is_space, trim};

/// Error of an invalid value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not an integer.
    #[error("invalid value {0:?}: expected an integer")]
    Integer(String),
    /// Not a boolean.
    #[error("invalid value {0:?}: expected true, yes, on, 1, false, no, off or 0")]
    Boolean(String),
    /// Not a size.
    #[error("invalid value {0:?}: expected a size in bytes, or with KB, MB or GB")]
    Bytes(String),
    /// Not an octal number.
    #[error("invalid value {0:?}: expected an octal number")]
    Octal(String),
    /// A name with a character that is not allowed in names.
    #[error("invalid name {0:?}: must not contain {1:?}")]
    Name(String, char),
    /// Not a list of variables.
    #[error("invalid value {0:?}: expected KEY=value,KEY2=\"value 2\"")]
    Pairs(String),
    /// Any other value, and what is expected.
    #[error("invalid value {0:?}: expected {1}")]
    Other(String, &'static str),
}

/// The kind of value that a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueKind {
    Text,
    Integer,
    Boolean,
    Bytes,
    Octal,
    Signal,
    ExitCodes,
    Restart,
    Level,
}

/// Checks that a value is of a kind.
pub(super) fn check(kind: ValueKind, value: &str) -> Result<(), ValueError> {
    let other = |what| ValueError::Other(shown(value), what);
    match kind {
        ValueKind::Text => Ok(()),
        ValueKind::Integer => integer(value).map(drop),
        ValueKind::Boolean => boolean(value).map(drop),
        ValueKind::Bytes => bytes(value).map(drop),
        ValueKind::Octal => octal(value),
        ValueKind::Signal => signal(value).then_some(()).ok_or_else(|| other("a signal")),
        ValueKind::ExitCodes => {
            let are_codes = value.is_empty()
                || value
                    .split(',')
                    .all(|code| integer(code).is_ok_and(|code| (0..=255).contains(&code)));
            are_codes
                .then_some(())
                .ok_or_else(|| other("exit codes from 0 to 255, separated by commas"))
        }
        ValueKind::Restart => {
            let is_known = boolean(value).is_ok() || value.eq_ignore_ascii_case("unexpected");
            is_known
                .then_some(())
                .ok_or_else(|| other("true, false or unexpected"))
        }
        ValueKind::Level => {
            const LEVELS: [&str; 7] = [
                "critical", "error", "warn", "info", "debug", "trace", "blather",
            ];
            let value = value.to_lowercase();
            let is_known = LEVELS.contains(&value.as_str());
            is_known.then_some(()).ok_or_else(|| other("a log level"))
        }
    }
}

/// Truncates a value for a message.
fn shown(value: &str) -> String {
    value.chars().take(80).collect()
}

/// Converts like Python's `int()`. A value outside of 64 bits becomes the largest or smallest one.
///
/// # Errors
///
/// If it is not an integer.
pub fn integer(text: &str) -> Result<i64, ValueError> {
    let wrong = || ValueError::Integer(shown(text));
    let trimmed = trim(text);
    let (sign, digits) = match trimmed.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let mut value = 0_i64;
    for part in digits.split('_') {
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        for digit in part.bytes() {
            value = value
                .saturating_mul(10)
                .saturating_add((digit - b'0').into());
        }
    }
    Ok(sign * value)
}

/// Converts a boolean.
///
/// # Errors
///
/// If it is not a boolean.
pub fn boolean(text: &str) -> Result<bool, ValueError> {
    match text.to_lowercase().as_str() {
        "yes" | "true" | "on" | "1" => Ok(true),
        "no" | "false" | "off" | "0" => Ok(false),
        _ => Err(ValueError::Boolean(shown(text))),
    }
}

/// Converts a size to bytes.
///
/// # Errors
///
/// If it is not a size. `50MB` is one, `50M` is not.
pub fn bytes(text: &str) -> Result<i64, ValueError> {
    let lower = text.to_lowercase();
    let (digits, unit) = [("kb", 1 << 10), ("mb", 1 << 20), ("gb", 1 << 30)]
        .into_iter()
        .find_map(|(suffix, unit)| Some((lower.strip_suffix(suffix)?, unit)))
        .unwrap_or((&lower, 1_i64));
    let number = integer(digits).map_err(|_| ValueError::Bytes(shown(text)))?;
    Ok(number.saturating_mul(unit))
}

fn octal(text: &str) -> Result<(), ValueError> {
    let trimmed = trim(text);
    let digits = trimmed.strip_prefix(['-', '+']).unwrap_or(trimmed);
    let digits = digits
        .strip_prefix("0o")
        .or_else(|| digits.strip_prefix("0O"))
        .unwrap_or(digits);
    let is_octal = !digits.is_empty() && digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    is_octal
        .then_some(())
        .ok_or_else(|| ValueError::Octal(shown(text)))
}

fn signal(text: &str) -> bool {
    const NAMES: [&str; 36] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "IOT", "BUS", "FPE", "KILL", "USR1", "SEGV",
        "USR2", "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CLD", "CONT", "STOP", "TSTP", "TTIN",
        "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "POLL", "PWR", "SYS",
        "RTMIN", "RTMAX",
    ];
    if let Ok(number) = integer(text) {
        // Python has no names for other real-time signals; the C library uses 32 and 33 itself.
        return (0..=31).contains(&number) || number == 34 || number == 64;
    }
    let upper = trim(text).to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES.contains(&name)
}

/// Converts the name of a program, group or process.
///
/// # Errors
///
/// If it contains a character that supervisord does not allow.
pub fn name(text: &str) -> Result<String, ValueError> {
    let trimmed = trim(text);
    match [' ', ':', '/'].into_iter().find(|&c| trimmed.contains(c)) {
        Some(character) => Err(ValueError::Name(shown(text), character)),
        None => Ok(trimmed.to_owned()),
    }
}

/// Converts `environment`: `KEY=value,KEY2="value 2"`, split like Python's `shlex` does, with
/// `/.+-():` in words and comments after `#`.
///
/// # Errors
///
/// If it does not have this form.
pub fn pairs(text: &str) -> Result<Vec<(String, String)>, ValueError> {
    let wrong = || ValueError::Pairs(shown(text));
    let tokens = tokens(text).ok_or_else(wrong)?;
    let mut pairs = Vec::new();
    // supervisord ignores what separates two pairs.
    for pair in tokens.chunks(4) {
        match pair {
            [key, equals, value, ..] if equals == "=" => {
                let value = value.trim_matches(['\'', '"']);
                pairs.push((key.clone(), value.to_owned()));
            }
            _ => return Err(wrong()),
        }
    }
    Ok(pairs)
}

/// Splits text into words, quoted strings and other characters; returns `None` if a quote is not closed.
fn tokens(text: &str) -> Option<Vec<String>> {
    // As in shlex without its POSIX mode, which would add letters outside of ASCII.
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_/.+-():".contains(c);
    let is_quote = |c| matches!(c, '"' | '\'');
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let Some(first) = rest.chars().next() else {
            return Some(tokens);
        };
        if first == '#' {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
        } else if is_word(first) {
            // A quote inside a word is part of it. A comment is not, but does not end the word.
            let mut word = String::new();
            loop {
                let more = |c: char| is_word(c) || is_quote(c);
                let length = rest.find(|c| !more(c)).unwrap_or(rest.len());
                word.push_str(&rest[..length]);
                rest = &rest[length..];
                if !rest.starts_with('#') {
                    break;
                }
                rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
            }
            tokens.push(word);
        } else {
            let length = if is_quote(first) {
                rest[1..].find(first)? + 2
            } else {
                first.len_utf8()
            };
            tokens.push(rest[..length].to_owned());
            rest = &rest[length..];
        }
    }
}

/// Splits a list at commas: `list_of_strings`.
#[must_use]
pub fn list(text: &str) -> Vec<&str> {
    if text.is_empty() {
        return Vec::new();
    }
    text.split(',').map(trim).collect()
}

/// Splits `files` at white space.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Results of supervisor/datatypes.py of 4.2.5.
    #[test]
    fn numbers_and_sizes_match_supervisord() {
        for (text, value) in [
            ("1", Some(1)),
            (" 12 ", Some(12)),
            ("+3", Some(3)),
            ("-3", Some(-3)),
            ("1_000", Some(1000)),
            ("", None),
            ("1__0", None),
            ("_1", None),
            ("1.5", None),
            ("- 1", None),
        ] {
            assert_eq!(integer(text).ok(), value, "{text}");
        }
        for (text, value) in [
            ("0", Some(0)),
            ("50MB", Some(50 << 20)),
            ("50 mb", Some(50 << 20)),
            ("1GB", Some(1 << 30)),
            ("1KB", Some(1024)),
            ("50M", None),
            ("MB", None),
            ("-1kb", Some(-1024)),
            ("99999999999999999999", Some(i64::MAX)),
        ] {
            assert_eq!(bytes(text).ok(), value, "{text}");
        }
        assert_eq!(boolean("Yes"), Ok(true));
        assert_eq!(boolean("OFF"), Ok(false));
        assert!(boolean("maybe").is_err());
        assert!(boolean("true ").is_err());
    }

    #[test]
    fn names_with_separators_are_rejected() {
        assert_eq!(name(" a.b-%(x)s ").unwrap(), "a.b-%(x)s");
        assert!(name("a b").is_err());
        assert!(name("a:b").is_err());
        assert!(name("a/b").is_err());
    }

    #[test]
    fn environment_is_split_like_shlex() {
        for (text, expected) in [
            ("", Some(&[][..])),
            ("A=b", Some(&[("A", "b")])),
            ("A=b,C=d", Some(&[("A", "b"), ("C", "d")])),
            (
                " A = \"b, c\" ,\n C='d' ",
                Some(&[("A", "b, c"), ("C", "d")]),
            ),
            ("A=/x:y(z)+-.", Some(&[("A", "/x:y(z)+-.")])),
            ("A=b # c", Some(&[("A", "b")])),
            ("A=b\"c d\"", Some(&[("A", "b\"c")])),
            ("A==b", Some(&[("A", "=")])),
            ("A=it's", Some(&[("A", "it's")])),
            ("A=b\"c\"d", Some(&[("A", "b\"c\"d")])),
            ("\"A\"=b", Some(&[("\"A\"", "b")])),
            ("A=\"x\"\"y\"", Some(&[("A", "x")])),
            ("A=''", Some(&[("A", "")])),
            ("A=b#c,D=e", Some(&[("A", "b")])),
            ("A=b#c\nd,E=f", Some(&[("A", "bd"), ("E", "f")])),
            ("A=\"x\"y,B=c", None),
            ("A=größe", None),
            ("A=a@b", None),
            ("A=b C=d", None),
            ("A=b,,C=d", None),
            ("A", None),
            ("A=", None),
            ("A=\"b", None),
            ("A=b,C", None),
        ] {
            let expected = expected.map(|pairs| {
                let pair = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
                pairs.iter().map(pair).collect::<Vec<_>>()
            });
            assert_eq!(pairs(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn invalid_values_are_rejected_by_kind() {
        for (kind, right, wrong) in [
            (ValueKind::Signal, "TERM", "BOOM"),
            (ValueKind::Signal, "sigusr1", "99"),
            (ValueKind::ExitCodes, "0,2", "0,256"),
            (ValueKind::ExitCodes, "", "a"),
            (ValueKind::Restart, "Unexpected", "sometimes"),
            (ValueKind::Level, "Debug", "loud"),
            (ValueKind::Octal, "022", "9"),
            (ValueKind::Octal, "0o17", ""),
        ] {
            assert_eq!(check(kind, right), Ok(()), "{right}");
            assert!(check(kind, wrong).is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_text_does_not_panic(text: String, other in "[a-c='\", #\n]{0,20}") {
            for text in [text, other] {
                let _ = (integer(&text), bytes(&text), name(&text), pairs(&text));
                let _ = check(ValueKind::Octal, &text);
            }
        }
    }
}
