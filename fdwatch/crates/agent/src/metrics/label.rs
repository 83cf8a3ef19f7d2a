//! Values of labels: names that strangers have chosen, so that they cannot grow without bound, nor
//! look like what they are not.

use fdwatch_render::escape::{Escaped, shorten};

/// Bytes of a value, at the most.
pub(super) const MAX: usize = 64;

/// Makes values, and counts those that had to be made others.
#[derive(Debug, Default)]
pub(super) struct Bounder {
    /// How many were shortened or had something escaped in them.
    pub(super) changed: u64,
}

impl Bounder {
    /// The value for a name: what is printable as it is, all else escaped, and no longer than [`MAX`].
    pub(super) fn value(&mut self, name: &[u8]) -> String {
        // Nothing becomes shorter by being escaped: what is beyond is cut off in any case.
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
    fn what_is_short_and_printable_stays() {
        assert_eq!(value(b"nginx"), ("nginx".to_owned(), 0));
        let name = "größe".as_bytes();
        assert_eq!(value(name), ("größe".to_owned(), 0));
        let longest = [b'a'; MAX];
        assert_eq!(value(&longest), ("a".repeat(MAX), 0));
    }

    #[test]
    fn what_is_long_is_cut_between_characters() {
        assert_eq!(
            value(&[b'a'; 10_000]),
            (format!("{}...", "a".repeat(61)), 1)
        );
        let (cut, changed) = value("ü".repeat(1000).as_bytes());
        assert_eq!((cut, changed), (format!("{}...", "ü".repeat(30)), 1));
    }

    #[test]
    fn what_is_not_printable_or_not_text_is_escaped() {
        assert_eq!(value(b"a\nb\xff"), ("a\\nb\\xff".to_owned(), 1));
        let (bell, _) = value(&[7; 64]);
        assert!(bell.len() <= MAX && bell.starts_with("\\x07"), "{bell}");
    }
}
