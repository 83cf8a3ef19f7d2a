//! Counts with their nouns: `1 process`, `2 processes`.

use std::fmt::Display;

/// Formats a count with its noun. `noun` is the singular; its last word gets the plural ending.
pub fn counted<N: Display + PartialEq + From<bool>>(count: N, noun: &str) -> String {
    let word = self::noun(&count, noun);
    format!("{count} {word}")
}

/// Returns the noun for a count, for callers that format the number differently or place it
/// elsewhere.
pub fn noun<N: PartialEq + From<bool>>(count: &N, noun: &str) -> String {
    let is_one = *count == N::from(true);
    match noun {
        _ if is_one => noun.to_owned(),
        _ if noun.ends_with('s') => format!("{noun}es"),
        _ => format!("{noun}s"),
    }
}

/// Returns `one` for a count of 1, else `several`, such as `was` and `were`.
pub fn either<N: PartialEq + From<bool>>(
    count: &N,
    one: &'static str,
    several: &'static str,
) -> &'static str {
    if *count == N::from(true) {
        one
    } else {
        several
    }
}

/// Formats a count with thousands separators: 12,345.
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nouns_are_singular_only_for_one() {
        assert_eq!(counted(0_usize, "process"), "0 processes");
        assert_eq!(counted(1_u64, "process"), "1 process");
        assert_eq!(counted(2_u32, "deleted file"), "2 deleted files");
        assert_eq!(noun(&1_u64, "descriptor"), "descriptor");
        assert_eq!(either(&0_u64, "was", "were"), "were");
    }
}
