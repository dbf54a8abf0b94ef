//! Which collections the configured names and patterns stand for, as the server lists them. Pure.

use std::collections::HashMap;

use crate::domain::inventory::SourceIndex;
use crate::stores::pattern::{is_pattern, matches};

/// How a source comes to a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Claim {
    /// It is named, or an alias of it is: it has to be there.
    Named,
    /// A pattern matches its name, or that of an alias: it may come and go.
    Matched,
}

/// A collection in which a source looks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Whose it is.
    pub(super) source: SourceIndex,
    /// How that source comes to it.
    pub(super) claim: Claim,
    /// Its own name, not an alias.
    pub(super) physical: String,
}

/// What a server has.
#[derive(Debug, Clone, Default)]
pub(super) struct Listed {
    /// The collections' own names; nobody looks at them where no pattern is configured.
    pub(super) collections: Vec<String>,
    /// The aliases, and the collections behind them.
    pub(super) aliases: Vec<(String, String)>,
}

/// The collections that the configured names and patterns stand for, by source and name. A collection is one source's: a name goes
/// before all patterns, and a pattern before those after it. Through however many names and aliases a pattern matches a
/// collection, it has it once.
///
/// # Errors
/// In words, if two names stand for the same collection: each would count and delete what is the other's.
pub(super) fn resolve(names: &[String], listed: &Listed) -> Result<Vec<Place>, String> {
    let behind: HashMap<&str, &str> =
        listed.aliases.iter().map(|(alias, name)| (alias.as_str(), name.as_str())).collect();
    let mut claimed: HashMap<&str, &str> = HashMap::new();
    let mut places = Vec::new();
    for (source, name) in names.iter().enumerate().filter(|(_, name)| !is_pattern(name)) {
        let physical = behind.get(name.as_str()).copied().unwrap_or(name);
        if let Some(other) = claimed.insert(physical, name) {
            return Err(format!(
                "`{other}` and `{name}` both stand for collection `{physical}`: configure one of them"
            ));
        }
        places.push(Place { source: SourceIndex(source), claim: Claim::Named, physical: physical.to_owned() });
    }
    for (source, pattern) in names.iter().enumerate().filter(|(_, name)| is_pattern(name)) {
        let own = listed.collections.iter().map(|name| (name.as_str(), name.as_str()));
        let aliases = listed.aliases.iter().map(|(alias, name)| (alias.as_str(), name.as_str()));
        for (name, physical) in own.chain(aliases) {
            if matches(pattern.as_bytes(), name.as_bytes()) && !claimed.contains_key(physical) {
                claimed.insert(physical, pattern);
                let physical = physical.to_owned();
                places.push(Place { source: SourceIndex(source), claim: Claim::Matched, physical });
            }
        }
    }
    places.sort();
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn listed(collections: &[&str], aliases: &[(&str, &str)]) -> Listed {
        let aliases = aliases.iter().map(|(alias, name)| ((*alias).to_owned(), (*name).to_owned())).collect();
        Listed { collections: names(collections), aliases }
    }

    /// By source, what a list of names stands for.
    fn resolved(configured: &[&str], listed: &Listed) -> Result<Vec<(usize, String)>, String> {
        let places = resolve(&names(configured), listed)?;
        Ok(places.into_iter().map(|place| (place.source.0, place.physical)).collect())
    }

    fn pairs(pairs: &[(usize, &str)]) -> Result<Vec<(usize, String)>, String> {
        Ok(pairs.iter().map(|(source, name)| (*source, (*name).to_owned())).collect())
    }

    #[test]
    fn names_resolve_to_one_collection_each() {
        let there = listed(&[], &[("courses", "courses_v2"), ("old", "courses_v1")]);
        assert_eq!(resolved(&["courses", "notes"], &there), pairs(&[(0, "courses_v2"), (1, "notes")]));
        assert_eq!(resolved(&["old", "courses"], &there), pairs(&[(0, "courses_v1"), (1, "courses_v2")]));
        let clash = resolved(&["courses", "courses_v2"], &there).unwrap_err();
        assert!(clash.contains("`courses` and `courses_v2` both stand for collection `courses_v2`"), "{clash}");
        assert!(resolved(&["notes", "notes"], &there).is_err());
    }

    #[test]
    fn a_pattern_has_every_match_once_however_many_names_lead_to_it() {
        let collections = ["materials-b", "materials-a", "notes", "embeddings_v3"];
        let aliases = [("materials-now", "materials-a"), ("materials-new", "embeddings_v3"), ("all", "notes")];
        let there = listed(&collections, &aliases);
        let expected = pairs(&[(0, "embeddings_v3"), (0, "materials-a"), (0, "materials-b")]);
        assert_eq!(resolved(&["materials-*"], &there), expected);
        assert_eq!(resolved(&["course_*_v2"], &there), pairs(&[]), "a pattern may match nothing");
    }

    #[test]
    fn a_name_goes_before_patterns_and_a_pattern_before_those_after_it() {
        let there = listed(&["materials-a", "materials-b", "materials-old", "notes"], &[("old", "materials-old")]);
        assert_eq!(
            resolved(&["materials-*", "old", "*"], &there),
            pairs(&[(0, "materials-a"), (0, "materials-b"), (1, "materials-old"), (2, "notes")])
        );
    }
}
