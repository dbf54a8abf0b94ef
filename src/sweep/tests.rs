//! What a sweep keeps of what went wrong. What it does is tested by the simulation, on calm days and others.

use super::Swept;

#[test]
fn the_first_causes_of_failures_are_kept_and_the_last() {
    let mut swept = Swept::default();
    for n in 1..=8 {
        swept.failure(n.to_string());
        let kept: Vec<String> = (1..=n.min(4)).chain((n > 4).then_some(n)).map(|n| n.to_string()).collect();
        assert_eq!(swept.failures, kept);
    }
}
