//! What someone meant who wrote a word that is none of those there are. Pure: which words there are
//! is handed in.

/// What belongs to the known word that is most like `word`, if any is like it.
pub fn nearest<'a, T>(known: impl Iterator<Item = (&'a str, T)>, word: &str) -> Option<T> {
    // Not to be asked of words that are longer than any that are known.
    if word.len() > 80 {
        return None;
    }
    known
        .map(|(known, of)| (strsim::jaro_winkler(known, word), of))
        .filter(|&(likeness, _)| likeness > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, of)| of)
}
