//! How much memory dead courses' keys take, from a sample of each source.
//!
//! The keys of the lowest hashes are the sample: as good as drawn at random, the same in each pass, and as many as it may be,
//! however many keys there are and in whichever order they come. They are asked for after the pass.

use std::collections::BTreeMap;
use std::time::Duration;

use super::PIPELINE;
use super::nodes::{Nodes, Part};
use crate::domain::inventory::{Census, SourceIndex, fingerprint};
use crate::errors::chain;
use crate::stores::StoreError;

/// The most keys of a source that are measured.
const SAMPLE: usize = 100;

/// The keys to be measured, by source.
#[derive(Debug, Default)]
pub(super) struct Sizes(BTreeMap<SourceIndex, BTreeMap<u64, Vec<u8>>>);

impl Sizes {
    /// A dead course's key, which may become a part of the sample.
    pub(super) fn offer(&mut self, source: SourceIndex, key: &[u8]) {
        let sample = self.0.entry(source).or_default();
        let hash = fingerprint(key);
        let is_full = sample.len() >= SAMPLE;
        if is_full && sample.last_key_value().is_some_and(|(highest, _)| *highest <= hash) {
            return;
        }
        sample.insert(hash, key.to_vec());
        if sample.len() > SAMPLE {
            sample.pop_last();
        }
    }

    /// Measures the sample. What cannot be measured, since it has gone or the server refuses, is left out: sizes are good to know
    /// and keep nothing from being swept.
    pub(super) async fn measure(self, nodes: &Nodes, census: &mut Census) {
        let keys: Vec<(SourceIndex, Vec<u8>)> = self
            .0
            .into_iter()
            .flat_map(|(source, sample)| sample.into_values().map(move |key| (source, key)))
            .collect();
        if let Err(error) = measure(nodes, &keys, census).await {
            tracing::info!(
                store = nodes.name(),
                why = chain(&error),
                "how much memory orphans' keys take is not known; grant MEMORY USAGE (`+memory|usage`) to know it"
            );
        }
    }
}

async fn measure(nodes: &Nodes, keys: &[(SourceIndex, Vec<u8>)], census: &mut Census) -> Result<(), StoreError> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut servers = nodes.servers("measure keys").await?;
    for keys in keys.chunks(PIPELINE) {
        let calls = |places: &[usize]| {
            let mut pipeline = redis::pipe();
            pipeline.ignore_errors();
            for (_, key) in places.iter().filter_map(|at| keys.get(*at)) {
                pipeline.cmd("MEMORY").arg("USAGE").arg(&key[..]);
            }
            pipeline
        };
        let names = keys.iter().map(|(_, key)| &key[..]);
        let parts: Vec<Part<Option<u64>>> = servers.send(names, || Some(Duration::MAX), calls).await;
        for Part { call, places, answers } in parts {
            for (place, answer) in places.into_iter().zip(answers?) {
                // Whom a server refuses one, it refuses all.
                let bytes = answer.map_err(|error| call.failed(error))?;
                if let (Some((source, _)), Some(bytes)) = (keys.get(place), bytes) {
                    census.sized(*source, bytes);
                }
            }
        }
    }
    servers.give_back();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_the_same_in_whichever_order_keys_come() {
        let keys: Vec<Vec<u8>> = (0..1000).map(|n| format!("key:{n}").into_bytes()).collect();
        let sample = |keys: &mut dyn Iterator<Item = &Vec<u8>>| {
            let mut sizes = Sizes::default();
            keys.for_each(|key| sizes.offer(SourceIndex(1), key));
            sizes.0
        };
        let one = sample(&mut keys.iter());
        assert_eq!(one[&SourceIndex(1)].len(), SAMPLE);
        assert_eq!(sample(&mut keys.iter().rev().chain(&keys)), one, "and however often");
        let highest = one[&SourceIndex(1)].keys().max().copied();
        let mut hashes: Vec<u64> = keys.iter().map(|key| fingerprint(key)).collect();
        hashes.sort_unstable();
        assert_eq!(highest, hashes.get(SAMPLE - 1).copied());
    }
}
