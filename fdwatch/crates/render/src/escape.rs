//! Escaping of names and paths for terminals: they are untrusted bytes, and may contain control
//! sequences.

use std::fmt::{self, Write as _};

/// Maximum length of a name, in bytes. The middle of longer names is omitted.
const MAX_SHOWN: usize = 4096;

/// Bytes formatted for a terminal: printable UTF-8 unchanged, everything else escaped.
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes) = self;
        if bytes.len() > MAX_SHOWN {
            let (head, tail) = (
                &bytes[..MAX_SHOWN / 2],
                &bytes[bytes.len() - MAX_SHOWN / 2..],
            );
            escape(f, head)?;
            f.write_str("...")?;
            return escape(f, tail);
        }
        escape(f, bytes)
    }
}

/// Returns bytes escaped for a terminal.
#[must_use]
pub fn escaped(bytes: &[u8]) -> String {
    Escaped(bytes).to_string()
}

fn escape(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                _ if character.is_ascii_control() => write!(f, "\\x{:02x}", character as u32)?,
                _ if character.is_control() || is_deceptive(character) => {
                    write!(f, "\\u{{{:x}}}", character as u32)?;
                }
                _ => f.write_char(character)?,
            }
        }
        for byte in chunk.invalid() {
            write!(f, "\\x{byte:02x}")?;
        }
    }
    Ok(())
}

/// Returns whether a character is invisible or changes how others are shown: it can make one path
/// look like another.
const fn is_deceptive(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Truncates a text to `max` bytes, which end with dots. Returns whether it was longer.
pub fn shorten(text: &mut String, max: usize) -> bool {
    const CUT: &str = "...";
    if text.len() <= max {
        return false;
    }
    let mut end = max.saturating_sub(CUT.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push_str(&CUT[..max.min(CUT.len())]);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_truncated_between_characters() {
        for (text, max, cut) in [
            ("abcdef", 6, None),
            ("abcdefg", 6, Some("abc...")),
            ("üüüü", 6, Some("ü...")),
            ("abc", 2, Some("..")),
            ("abc", 0, Some("")),
        ] {
            let mut shortened = text.to_owned();
            assert_eq!(shorten(&mut shortened, max), cut.is_some());
            assert_eq!(shortened, cut.unwrap_or(text));
        }
    }

    #[test]
    fn printable_text_is_unchanged() {
        assert_eq!(
            escaped("/var/log/größe x.log".as_bytes()),
            "/var/log/größe x.log"
        );
    }

    #[test]
    fn control_sequences_are_escaped() {
        assert_eq!(escaped(b"a\x1b[2Jb\nc\\d\x7f"), "a\\x1b[2Jb\\nc\\\\d\\x7f");
        assert_eq!(escaped("\u{9b}31m".as_bytes()), "\\u{9b}31m");
        assert_eq!(escaped("a\u{202e}b".as_bytes()), "a\\u{202e}b");
        assert_eq!(escaped(b"x\xff\xfey"), "x\\xff\\xfey");
    }

    #[test]
    fn middle_of_long_name_is_omitted() {
        assert_eq!(escaped(&[b'a'; 10_000]).len(), MAX_SHOWN + 3);
    }
}
