//! Suggestions for mistyped words: the nearest of the known ones.

/// Returns the value of the known word most similar to `word`, if any is similar enough.
pub fn nearest<'a, T>(known: impl Iterator<Item = (&'a str, T)>, word: &str) -> Option<T> {
    // Longer than any known word, and slow to compare.
    if word.len() > 80 {
        return None;
    }
    known
        .map(|(known, of)| (strsim::jaro_winkler(known, word), of))
        .filter(|&(likeness, _)| likeness > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, of)| of)
}
