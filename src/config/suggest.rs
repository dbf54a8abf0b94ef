//! The nearest of some known words to a misspelt one.

/// The known word with the fewest edits from `word`, if that is at most a third of its letters.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|other| (distance(word, other), other))
        .filter(|(edits, other)| *edits <= other.chars().count().div_ceil(3))
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, other)| other)
}

/// How many letters must be added, removed or exchanged to make `b` of `a`; two neighbours that
/// swapped places count once.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, right) in b.iter().enumerate() {
            let mut cost = (previous[j] + usize::from(left != right)).min(previous[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *left == b[j - 1] && a[i - 1] == *right {
                cost = cost.min(before[j - 1] + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut previous, row);
    }
    previous[b.len()]
}
