//! Expansions: `%(name)s` and everything else that Python's `%` does with names
//! (`unicode_format_arg_parse` and `PyNumber` formatting, Objects/unicodeobject.c). Pure: the caller
//! supplies the names.

use std::{collections::BTreeMap, fmt::Write as _};

/// The value of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A number: `process_num` or `numprocs`.
    Number(i64),
}

/// The values of names.
pub type Names = BTreeMap<String, Value>;

/// Error of an expansion.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// The name is not defined.
    #[error("unknown name %({0})")]
    Unknown(String),
    /// The text after a percent sign is not an expansion.
    #[error(
        "invalid expansion `{0}`: expected one such as %(program_name)s, or %% for a percent sign"
    )]
    Malformed(String),
    /// A conversion for numbers is applied to text.
    #[error("%({0}) is text: use %({0})s, not %({0}){1}")]
    NotNumber(String, char),
    /// The width or precision exceeds the length of any path.
    #[error("field width or precision too large: {0}")]
    TooWide(u64),
}

/// Maximum width or precision. Python has no limit, and would use all memory.
const MAX_WIDTH: u64 = 4096;

/// The flags, width and precision of a conversion: the part between its name and its letter.
#[derive(Default)]
struct Spec {
    alternate: bool,
    zero: bool,
    left: bool,
    space: bool,
    plus: bool,
    width: usize,
    precision: Option<usize>,
}

/// Expands `text`.
///
/// # Errors
///
/// If an expansion is invalid. So is `%s` without a name, which in Python formats all names at once.
pub fn expand(text: &str, names: &Names) -> Result<String, ExpandError> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(percent) = rest.find('%') {
        result.push_str(&rest[..percent]);
        rest = &rest[percent..];
        let length = conversion(rest, names, &mut result)?;
        rest = &rest[length..];
    }
    result.push_str(rest);
    Ok(result)
}

/// Expands the conversion that `text` begins with into `result`, and returns its length in `text`.
fn conversion(text: &str, names: &Names, result: &mut String) -> Result<usize, ExpandError> {
    if text.starts_with("%%") {
        result.push('%');
        return Ok(2);
    }
    let malformed = || ExpandError::Malformed(text.chars().take(40).collect());
    let mut characters = text.char_indices().skip(1).peekable();
    let mut name = None;
    if let Some((start, _)) = characters.next_if(|&(_, c)| c == '(') {
        let mut depth = 1;
        let end = characters.find_map(|(index, c)| {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            (depth == 0).then_some(index)
        });
        name = Some(&text[start + 1..end.ok_or_else(malformed)?]);
    }
    // Python looks up the name before it parses the rest.
    let unknown = || ExpandError::Unknown(name.unwrap_or_default().chars().take(80).collect());
    let value = name.map(|name| names.get(name).ok_or_else(unknown));
    let value = value.transpose()?;

    let mut spec = Spec::default();
    while let Some((_, flag)) = characters.next_if(|&(_, c)| "-+ #0".contains(c)) {
        match flag {
            '-' => spec.left = true,
            '+' => spec.plus = true,
            ' ' => spec.space = true,
            '#' => spec.alternate = true,
            _ => spec.zero = true,
        }
    }
    spec.width = number(&mut characters)?.unwrap_or(0);
    if characters.next_if(|&(_, c)| c == '.').is_some() {
        spec.precision = Some(number(&mut characters)?.unwrap_or(0));
    }
    characters.next_if(|&(_, c)| "hlL".contains(c));
    let (index, letter) = characters.next().ok_or_else(malformed)?;
    let length = index + letter.len_utf8();
    let (Some(name), Some(value)) = (name, value) else {
        return Err(malformed());
    };
    let (sign, prefix, body) = match (letter, value) {
        ('s', Value::Number(number)) => text_of(&number.to_string(), &spec),
        ('r' | 'a', Value::Number(number)) => text_of(&number.to_string(), &spec),
        ('s', Value::Text(text)) => text_of(text, &spec),
        ('r', Value::Text(text)) => text_of(&quoted(text, false), &spec),
        ('a', Value::Text(text)) => text_of(&quoted(text, true), &spec),
        ('c', Value::Number(number)) => {
            let character = u32::try_from(*number).ok().and_then(char::from_u32);
            let character = character.ok_or_else(malformed)?;
            ("", "", character.to_string())
        }
        ('c', Value::Text(text)) if text.chars().count() == 1 => ("", "", text.clone()),
        ('d' | 'i' | 'u' | 'o' | 'x' | 'X', Value::Number(number)) => {
            integer(*number, letter, &spec)
        }
        ('e' | 'E' | 'f' | 'F' | 'g' | 'G', Value::Number(number)) => real(*number, letter, &spec),
        ('c' | 'd' | 'i' | 'u' | 'o' | 'x' | 'X' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G', _) => {
            return Err(ExpandError::NotNumber(name.to_owned(), letter));
        }
        _ => return Err(malformed()),
    };
    let is_numeric = !matches!(letter, 's' | 'r' | 'a' | 'c');
    pad(result, sign, prefix, &body, &spec, is_numeric);
    Ok(length)
}

fn number(
    characters: &mut std::iter::Peekable<impl Iterator<Item = (usize, char)>>,
) -> Result<Option<usize>, ExpandError> {
    let mut number = None;
    while let Some((_, digit)) = characters.next_if(|(_, c)| c.is_ascii_digit()) {
        let value = u64::from(digit) - u64::from('0');
        let wide = number.unwrap_or(0_u64) * 10 + value;
        if wide > MAX_WIDTH {
            return Err(ExpandError::TooWide(wide));
        }
        number = Some(wide);
    }
    Ok(number.and_then(|number| usize::try_from(number).ok()))
}

type Parts = (&'static str, &'static str, String);

fn text_of(text: &str, spec: &Spec) -> Parts {
    let max = spec.precision.unwrap_or(usize::MAX);
    ("", "", text.chars().take(max).collect())
}

fn sign(is_negative: bool, spec: &Spec) -> &'static str {
    match (is_negative, spec.plus, spec.space) {
        (true, ..) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        (false, false, false) => "",
    }
}

fn integer(number: i64, letter: char, spec: &Spec) -> Parts {
    let magnitude = number.unsigned_abs();
    let (prefix, mut digits) = match letter {
        'o' => ("0o", format!("{magnitude:o}")),
        'x' => ("0x", format!("{magnitude:x}")),
        'X' => ("0X", format!("{magnitude:X}")),
        _ => ("", magnitude.to_string()),
    };
    let missing = spec.precision.unwrap_or(0).saturating_sub(digits.len());
    digits.insert_str(0, &"0".repeat(missing));
    let prefix = if spec.alternate { prefix } else { "" };
    (sign(number < 0, spec), prefix, digits)
}

fn real(number: i64, letter: char, spec: &Spec) -> Parts {
    #[expect(
        clippy::cast_precision_loss,
        reason = "Python converts to a float of 64 bits, too"
    )]
    let magnitude = number.unsigned_abs() as f64;
    let precision = spec.precision.unwrap_or(6);
    let mut body = match letter.to_ascii_lowercase() {
        'f' => {
            let point = if spec.alternate && precision == 0 {
                "."
            } else {
                ""
            };
            format!("{magnitude:.precision$}{point}")
        }
        'e' => scientific(magnitude, precision, spec.alternate),
        _ => {
            // The shortest form: at most `precision` digits, with an exponent for large numbers.
            let digits = precision.max(1);
            let rounded = format!("{magnitude:.*e}", digits - 1);
            let exponent = rounded.rsplit_once('e').and_then(|(_, e)| e.parse().ok());
            let exponent: usize = exponent.unwrap_or(0);
            let long = if exponent < digits {
                format!("{magnitude:.*}", digits - 1 - exponent)
            } else {
                scientific(magnitude, digits - 1, spec.alternate)
            };
            if spec.alternate {
                if long.contains('.') { long } else { long + "." }
            } else {
                shortest(&long)
            }
        }
    };
    if letter.is_ascii_uppercase() {
        body.make_ascii_uppercase();
    }
    (sign(number < 0, spec), "", body)
}

/// Formats with an exponent of at least two digits, as C does.
fn scientific(magnitude: f64, precision: usize, alternate: bool) -> String {
    let text = format!("{magnitude:.precision$e}");
    let (mantissa, exponent) = text.rsplit_once('e').unwrap_or((&text, "0"));
    let point = if alternate && precision == 0 { "." } else { "" };
    format!("{mantissa}{point}e+{exponent:0>2}")
}

/// Removes trailing zeros of the fraction.
fn shortest(text: &str) -> String {
    let (mantissa, exponent) = text.split_at(text.find('e').unwrap_or(text.len()));
    let mantissa = if mantissa.contains('.') {
        mantissa.trim_end_matches('0').trim_end_matches('.')
    } else {
        mantissa
    };
    format!("{mantissa}{exponent}")
}

/// Quotes text as Python's `repr` does, or as its `ascii`.
fn quoted(text: &str, ascii_only: bool) -> String {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut result = String::from(quote);
    for character in text.chars() {
        // Writing to a string cannot fail.
        let _ = match (character, character as u32) {
            ('\\', _) => result.write_str("\\\\"),
            ('\n', _) => result.write_str("\\n"),
            ('\r', _) => result.write_str("\\r"),
            ('\t', _) => result.write_str("\\t"),
            (c, _) if c == quote => write!(result, "\\{c}"),
            (c, code) if c.is_control() && code < 0x100 => write!(result, "\\x{code:02x}"),
            (c, code) if ascii_only && !c.is_ascii() => match code {
                ..0x100 => write!(result, "\\x{code:02x}"),
                0x100..0x1_0000 => write!(result, "\\u{code:04x}"),
                _ => write!(result, "\\U{code:08x}"),
            },
            (c, _) => result.write_char(c),
        };
    }
    result.push(quote);
    result
}

fn pad(result: &mut String, sign: &str, prefix: &str, body: &str, spec: &Spec, is_numeric: bool) {
    let length = sign.len() + prefix.len() + body.chars().count();
    let missing = spec.width.saturating_sub(length);
    let (before, zeros, after) = match (spec.left, spec.zero && is_numeric) {
        (true, _) => (0, 0, missing),
        (false, true) => (0, missing, 0),
        (false, false) => (missing, 0, 0),
    };
    result.push_str(&" ".repeat(before));
    result.push_str(sign);
    result.push_str(prefix);
    result.push_str(&"0".repeat(zeros));
    result.push_str(body);
    result.push_str(&" ".repeat(after));
}

#[cfg(test)]
mod tests;
