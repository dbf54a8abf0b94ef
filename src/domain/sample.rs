//! How large many resources are, from the sizes of a few.

use serde::Serialize;

/// The sizes of resources that were chosen at random among those of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample {
    count: u64,
    sum: u128,
    squares: u128,
}

/// What a [`Sample`] says of all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Estimate {
    /// How many resources it is about.
    pub resources: u64,
    /// How many were measured.
    pub sampled: u64,
    /// Their size in bytes, all of them together.
    pub bytes: u64,
    /// The standard error of that: in two of three cases the truth is no further away, in 19 of 20 no further than twice as much.
    pub standard_error: u64,
}

impl Sample {
    /// One more that was measured.
    pub fn add(&mut self, bytes: u64) {
        let bytes = u128::from(bytes);
        self.count = self.count.saturating_add(1);
        self.sum = self.sum.saturating_add(bytes);
        self.squares = self.squares.saturating_add(bytes.saturating_mul(bytes));
    }

    /// The size of `resources` from which the sample was drawn; nothing if it is of fewer than two, and so cannot tell its error,
    /// unless it is of all.
    pub fn estimate(&self, resources: u64) -> Option<Estimate> {
        let is_of_all = self.count > 0 && self.count >= resources;
        if self.count < 2 && !is_of_all {
            return None;
        }
        let (n, all) = (self.count as f64, resources as f64);
        let mean = self.sum as f64 / n;
        // Of a sample that is of all, nothing is left to be wrong about.
        let unseen = (1.0 - n / all.max(1.0)).max(0.0);
        let variance = ((self.squares as f64 - n * mean * mean) / (n - 1.0).max(1.0)).max(0.0);
        let standard_error = all * (variance / n * unseen).sqrt();
        Some(Estimate {
            resources,
            sampled: self.count,
            bytes: (all * mean).round() as u64,
            standard_error: standard_error.ceil() as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(sizes: &[u64]) -> Sample {
        let mut sample = Sample::default();
        sizes.iter().for_each(|bytes| sample.add(*bytes));
        sample
    }

    #[test]
    fn nothing_is_said_where_the_error_is_unknown() {
        assert_eq!(sample(&[]).estimate(0), None);
        assert_eq!(sample(&[]).estimate(5), None);
        assert_eq!(sample(&[100]).estimate(2), None);
    }

    #[test]
    fn whoever_measured_all_is_not_wrong() {
        let one = Estimate { resources: 1, sampled: 1, bytes: 100, standard_error: 0 };
        assert_eq!(sample(&[100]).estimate(1), Some(one));
        let three = Estimate { resources: 3, sampled: 3, bytes: 111, standard_error: 0 };
        assert_eq!(sample(&[1, 10, 100]).estimate(3), Some(three));
    }

    #[test]
    fn a_few_stand_for_many_with_their_error() {
        // Mean 20, variance 100; 30 · sqrt(100 / 3 · 0.9).
        let some = Estimate { resources: 30, sampled: 3, bytes: 600, standard_error: 165 };
        assert_eq!(sample(&[10, 20, 30]).estimate(30), Some(some));
        let alike = Estimate { resources: 1_000, sampled: 2, bytes: 56_000, standard_error: 0 };
        assert_eq!(sample(&[56, 56]).estimate(1_000), Some(alike));
    }

    proptest! {
        #[test]
        fn an_estimate_lies_between_the_smallest_and_the_largest(sizes in proptest::collection::vec(0u64..1 << 40, 2..50), more in 0u64..1 << 20) {
            let resources = sizes.len() as u64 + more;
            let estimate = sample(&sizes).estimate(resources).unwrap();
            let (least, most) = (*sizes.iter().min().unwrap(), *sizes.iter().max().unwrap());
            let (least, most) = (least as f64 * resources as f64, most as f64 * resources as f64);
            let bytes = estimate.bytes as f64;
            prop_assert!(bytes >= least * 0.999_999 - 1.0 && bytes <= most * 1.000_001 + 1.0, "{estimate:?}");
        }
    }
}
