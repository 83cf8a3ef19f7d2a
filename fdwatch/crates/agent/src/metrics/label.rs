//! Label values from untrusted names: escaped and bounded.

use fdwatch_render::escape::{Escaped, shorten};

/// Length limit of a value: bytes.
pub(super) const MAX: usize = 64;

/// Creates values, and counts those that were changed.
#[derive(Debug, Default)]
pub(super) struct Bounder {
    /// Number of values that were shortened or escaped.
    pub(super) changed: u64,
}

impl Bounder {
    /// Returns the value of a name: escaped, and no longer than [`MAX`].
    pub(super) fn value(&mut self, name: &[u8]) -> String {
        // Escaping never shortens, so the rest would be cut off anyway.
        let beginning = &name[..name.len().min(MAX + 1)];
        let mut value = Escaped(beginning).to_string();
        shorten(&mut value, MAX);
        if value.as_bytes() != name {
            self.changed += 1;
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &[u8]) -> (String, u64) {
        let mut bounder = Bounder::default();
        let value = bounder.value(name);
        (value, bounder.changed)
    }

    #[test]
    fn short_printable_name_is_unchanged() {
        assert_eq!(value(b"nginx"), ("nginx".to_owned(), 0));
        let name = "größe".as_bytes();
        assert_eq!(value(name), ("größe".to_owned(), 0));
        let longest = [b'a'; MAX];
        assert_eq!(value(&longest), ("a".repeat(MAX), 0));
    }

    #[test]
    fn long_name_is_cut_between_characters() {
        assert_eq!(
            value(&[b'a'; 10_000]),
            (format!("{}...", "a".repeat(61)), 1)
        );
        let (cut, changed) = value("ü".repeat(1000).as_bytes());
        assert_eq!((cut, changed), (format!("{}...", "ü".repeat(30)), 1));
    }

    #[test]
    fn unprintable_bytes_are_escaped() {
        assert_eq!(value(b"a\nb\xff"), ("a\\nb\\xff".to_owned(), 1));
        let (bell, _) = value(&[7; 64]);
        assert!(bell.len() <= MAX && bell.starts_with("\\x07"), "{bell}");
    }
}
