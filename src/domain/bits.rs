//! Which positions of a live set were seen: one bit each.

/// See the module's documentation.
#[derive(Debug)]
pub struct BitSet(Vec<u64>);

impl BitSet {
    /// Nothing seen of so many positions.
    pub fn of(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    /// Position `position` was seen; one that there is not is passed over.
    pub fn insert(&mut self, position: usize) {
        if let Some(word) = self.0.get_mut(position / 64) {
            *word |= 1 << (position % 64);
        }
    }

    /// True if it was seen.
    pub fn contains(&self, position: usize) -> bool {
        self.0.get(position / 64).is_some_and(|word| word & (1 << (position % 64)) != 0)
    }

    /// How many were seen.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_inserted_is_contained_and_counted_once() {
        let mut bits = BitSet::of(130);
        for position in [0, 63, 64, 129, 129, 1_000] {
            bits.insert(position);
        }
        let contained: Vec<usize> = (0..2_000).filter(|position| bits.contains(*position)).collect();
        assert_eq!((contained, bits.count()), (vec![0, 63, 64, 129], 4));
    }
}
