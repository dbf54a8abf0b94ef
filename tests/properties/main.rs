//! Properties of all that reads foreign text: names of keys and directories, jobs' data, stored paths, answers of a database, the
//! configuration. Each takes bytes and panics if it does not hold.
//!
//! `make deep` searches for counterexamples, guided by coverage (`fuzz/`); here the same functions run over the committed
//! seeds, and over inputs made from them. A counterexample that was found becomes a test beside the code that it broke,
//! and a seed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may fail so")]

mod configuration;
mod copy_stream;
mod ids;
mod input;
mod job_data;
mod layouts;
mod references;
mod templates;

use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// The folder of the files that hold secrets.
const SECRETS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/properties/secrets");

/// How many inputs each property is tried with besides the seeds.
const INPUTS: u32 = 3000;

/// A change of an input, at a place given in shares of its length.
#[derive(Debug, Clone)]
enum Edit {
    Insert(u16, Vec<u8>),
    Remove(u16, u8),
    Replace(u16, u8),
    /// A piece of another seed.
    Splice(u16, prop::sample::Index, u16, u8),
}

fn edit(words: Vec<Vec<u8>>) -> impl Strategy<Value = Edit> {
    let bytes = prop_oneof![prop::collection::vec(any::<u8>(), 1..4), prop::collection::vec(b' '..b'~', 1..6)];
    prop_oneof![
        3 => (any::<u16>(), prop::sample::select(words)).prop_map(|(at, word)| Edit::Insert(at, word)),
        1 => (any::<u16>(), bytes).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        2 => (any::<u16>(), 1u8..40).prop_map(|(at, count)| Edit::Remove(at, count)),
        1 => (any::<u16>(), any::<u8>()).prop_map(|(at, byte)| Edit::Replace(at, byte)),
        1 => (any::<u16>(), any::<prop::sample::Index>(), any::<u16>(), 1u8..80).prop_map(|(at, seed, from, count)| Edit::Splice(at, seed, from, count)),
    ]
}

fn apply(seeds: &[Vec<u8>], mut input: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    let place = |share: u16, len: usize| (usize::from(share) * (len + 1)) >> 16;
    for edit in edits {
        match edit {
            Edit::Insert(at, bytes) => {
                let at = place(*at, input.len());
                input.splice(at..at, bytes.iter().copied());
            }
            Edit::Remove(at, count) => {
                let at = place(*at, input.len());
                let end = input.len().min(at + usize::from(*count));
                input.drain(at..end);
            }
            Edit::Replace(at, byte) => {
                let at = place(*at, input.len());
                if let Some(there) = input.get_mut(at) {
                    *there = *byte;
                }
            }
            Edit::Splice(at, seed, from, count) => {
                let other = seed.get(seeds);
                let from = place(*from, other.len());
                let piece = &other[from..other.len().min(from + usize::from(*count))];
                let at = place(*at, input.len());
                input.splice(at..at, piece.iter().copied());
            }
        }
    }
    input
}

/// The committed inputs of a property.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 2, "{}: hardly any seed", folder.display());
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// The words of a libFuzzer dictionary: a `"…"` a line, with `\xNN` for bytes.
fn dictionary(name: &str) -> Vec<Vec<u8>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/dictionaries").join(name);
    let text = std::fs::read_to_string(file).unwrap();
    let quoted = text.lines().filter_map(|line| line.trim().strip_prefix('"')?.strip_suffix('"'));
    quoted.map(unescape).collect()
}

fn unescape(word: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = word;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        bytes.extend(plain.bytes());
        rest = match escaped.strip_prefix('x') {
            Some(hex) => {
                bytes.push(u8::from_str_radix(&hex[..2], 16).unwrap());
                &hex[2..]
            }
            None => {
                bytes.extend(escaped.bytes().take(1));
                &escaped[1..]
            }
        };
    }
    bytes.extend(rest.bytes());
    bytes
}

/// Runs a property over its seeds and over inputs made from them, always the same ones.
fn holds(name: &str, check: fn(&[u8])) {
    let seeds = seeds(name);
    seeds.iter().for_each(|seed| check(seed));
    let inputs = (prop::sample::select(seeds.clone()), prop::collection::vec(edit(dictionary(name)), 1..8));
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let config = Config { cases: INPUTS, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, rng)
        .run(&inputs, |(seed, edits)| {
            check(&apply(&seeds, seed, &edits));
            Ok(())
        })
        .unwrap();
}

#[test]
fn every_property_has_a_target_that_searches_for_counterexamples() {
    let names = |folder: &str| -> Vec<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder);
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut names: Vec<_> = files.map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    let targets = names("fuzz_targets");
    assert_eq!((names("seeds"), names("dictionaries")), (targets.clone(), targets.clone()));
    let here = include_str!("main.rs");
    for target in targets {
        assert!(
            here.contains(&format!("holds(\"{target}\", {target}::check)")),
            "{target} is searched, and not tried here"
        );
    }
}

#[test]
fn s5_an_id_is_its_canonical_text_and_every_spelling_of_it_is_a_mention() {
    holds("ids", ids::check);
}

#[test]
fn s5_an_owner_stands_in_the_key_where_the_template_says() {
    holds("templates", templates::check);
}

#[test]
fn s5_a_job_is_whose_its_data_or_its_id_say_and_names_everybody_in_them() {
    holds("job_data", job_data::check);
}

#[test]
fn s5_s13_an_owner_is_a_directory_below_the_root() {
    holds("layouts", layouts::check);
}

#[test]
fn s9_a_stored_path_holds_every_course_that_it_may_name() {
    holds("references", references::check);
}

#[test]
fn s4_a_stream_is_read_whole_or_not_at_all() {
    holds("copy_stream", copy_stream::check);
}

#[test]
fn no_message_repeats_a_password() {
    holds("configuration", configuration::check);
}
