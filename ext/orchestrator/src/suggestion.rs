//! The known name that a misspelt one is nearest to.

/// The most similar of `known`, if any is similar enough to have been meant.
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    const SIMILAR: f64 = 0.8;
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), *candidate))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate)
}
