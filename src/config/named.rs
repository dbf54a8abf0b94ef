//! A map by name that is never empty and keeps the file's order.

use std::iter;

/// Values by name, at least one, in the order of the file.
#[derive(Clone, Debug)]
pub struct Named<T> {
    first: (String, T),
    rest: Vec<(String, T)>,
}

impl<T> Named<T> {
    /// Takes the entries; `None` where there are none.
    pub fn new(entries: Vec<(String, T)>) -> Option<Self> {
        let mut entries = entries.into_iter();
        Some(Self { first: entries.next()?, rest: entries.collect() })
    }

    /// The first entry.
    pub fn first(&self) -> &(String, T) {
        &self.first
    }

    /// Every entry, in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        iter::once(&self.first).chain(&self.rest).map(|(name, value)| (name.as_str(), value))
    }

    /// The entry of that name.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }
}
