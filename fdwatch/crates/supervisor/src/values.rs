//! Values: what supervisor/datatypes.py takes for numbers, sizes, truth and lists.

use super::ini::{is_space, trim};

/// Why a value is not what it is to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// A number.
    #[error("not a whole number: {0:?}")]
    Integer(String),
    /// Truth.
    #[error("neither true, yes, on, 1 nor false, no, off, 0: {0:?}")]
    Boolean(String),
    /// A size.
    #[error("not a size in bytes, or with KB, MB or GB: {0:?}")]
    Bytes(String),
    /// An octal number.
    #[error("not an octal number: {0:?}")]
    Octal(String),
    /// A name, and what must not be in it.
    #[error("{1:?} must not be in a name: {0:?}")]
    Name(String, char),
    /// An environment.
    #[error("not of the form KEY=value,KEY2=\"value 2\": {0:?}")]
    Pairs(String),
    /// Anything else, and what it was to be.
    #[error("not {1}: {0:?}")]
    Other(String, &'static str),
}

/// What a key's value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
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

/// Whether a value is of a kind.
pub(super) fn check(kind: Kind, value: &str) -> Result<(), ValueError> {
    let other = |what| ValueError::Other(shown(value), what);
    match kind {
        Kind::Text => Ok(()),
        Kind::Integer => integer(value).map(drop),
        Kind::Boolean => boolean(value).map(drop),
        Kind::Bytes => bytes(value).map(drop),
        Kind::Octal => octal(value),
        Kind::Signal => signal(value).then_some(()).ok_or_else(|| other("a signal")),
        Kind::ExitCodes => {
            let are_codes = value.is_empty()
                || value
                    .split(',')
                    .all(|code| integer(code).is_ok_and(|code| (0..=255).contains(&code)));
            are_codes
                .then_some(())
                .ok_or_else(|| other("exit codes from 0 to 255, with commas"))
        }
        Kind::Restart => {
            let is_known = boolean(value).is_ok() || value.eq_ignore_ascii_case("unexpected");
            is_known
                .then_some(())
                .ok_or_else(|| other("true, false or unexpected"))
        }
        Kind::Level => {
            const LEVELS: [&str; 7] = [
                "critical", "error", "warn", "info", "debug", "trace", "blather",
            ];
            let value = value.to_lowercase();
            let is_known = LEVELS.contains(&value.as_str());
            is_known.then_some(()).ok_or_else(|| other("a log level"))
        }
    }
}

/// A value in a message: not longer than a line.
fn shown(value: &str) -> String {
    value.chars().take(80).collect()
}

/// `int()` of Python. What is beyond 64 bits is taken for the most there is.
///
/// # Errors
///
/// If it is not one.
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

/// Truth.
///
/// # Errors
///
/// If it is neither.
pub fn boolean(text: &str) -> Result<bool, ValueError> {
    match text.to_lowercase().as_str() {
        "yes" | "true" | "on" | "1" => Ok(true),
        "no" | "false" | "off" | "0" => Ok(false),
        _ => Err(ValueError::Boolean(shown(text))),
    }
}

/// A size, in bytes.
///
/// # Errors
///
/// If it is not one: `50M` is none, `50MB` is.
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
        // 32 and 33 are the C library's; 34 and 64 have names.
        return (0..=31).contains(&number) || number == 34 || number == 64;
    }
    let upper = trim(text).to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES.contains(&name)
}

/// A program's, group's or process's name.
///
/// # Errors
///
/// If there is a character in it that supervisord does not bear.
pub fn name(text: &str) -> Result<String, ValueError> {
    let trimmed = trim(text);
    match [' ', ':', '/'].into_iter().find(|&c| trimmed.contains(c)) {
        Some(character) => Err(ValueError::Name(shown(text), character)),
        None => Ok(trimmed.to_owned()),
    }
}

/// `environment`: `KEY=value,KEY2="value 2"`, as `shlex` of Python cuts it, with `/.+-():` in words
/// and comments after `#`.
///
/// # Errors
///
/// If it is not of the form.
pub fn pairs(text: &str) -> Result<Vec<(String, String)>, ValueError> {
    let wrong = || ValueError::Pairs(shown(text));
    let tokens = tokens(text).ok_or_else(wrong)?;
    let mut pairs = Vec::new();
    // What is between two pairs is not looked at.
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

/// None if a quote is not closed.
fn tokens(text: &str) -> Option<Vec<String>> {
    // Of shlex; the letters beyond ASCII that it adds for POSIX shells are not among them.
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
            // A quote inside of a word is part of it, and a comment is not, but does not end it.
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

/// `list_of_strings`: with commas between.
#[must_use]
pub fn list(text: &str) -> Vec<&str> {
    if text.is_empty() {
        return Vec::new();
    }
    text.split(',').map(trim).collect()
}

/// The words of `files`.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Each as supervisor/datatypes.py of 4.2.5 says.
    #[test]
    fn numbers_and_sizes_are_those_of_python() {
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
    fn names_have_no_separators() {
        assert_eq!(name(" a.b-%(x)s ").unwrap(), "a.b-%(x)s");
        assert!(name("a b").is_err());
        assert!(name("a:b").is_err());
        assert!(name("a/b").is_err());
    }

    #[test]
    fn pairs_are_those_of_shlex() {
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
    fn kinds_are_checked() {
        for (kind, right, wrong) in [
            (Kind::Signal, "TERM", "BOOM"),
            (Kind::Signal, "sigusr1", "99"),
            (Kind::ExitCodes, "0,2", "0,256"),
            (Kind::ExitCodes, "", "a"),
            (Kind::Restart, "Unexpected", "sometimes"),
            (Kind::Level, "Debug", "loud"),
            (Kind::Octal, "022", "9"),
            (Kind::Octal, "0o17", ""),
        ] {
            assert_eq!(check(kind, right), Ok(()), "{right}");
            assert!(check(kind, wrong).is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(text: String, other in "[a-c='\", #\n]{0,20}") {
            for text in [text, other] {
                let _ = (integer(&text), bytes(&text), name(&text), pairs(&text));
                let _ = check(Kind::Octal, &text);
            }
        }
    }
}
