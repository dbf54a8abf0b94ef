//! Right place, right truth (S7): what was adopted, and whether what is there now is still that.

use serde::{Deserialize, Serialize};

use super::markers::LedgerBehind;

/// A relation behind a liveness query.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RelationPin {
    /// Its name, with its schema.
    pub name: String,
    /// Postgres's own number for it: another table of the same name has another one.
    pub oid: u32,
    /// Postgres's letter for its kind: `r` a table, `v` a view, `p` a partitioned table, …
    pub kind: String,
    /// A hash of a view's definition.
    pub definition: Option<String>,
}

/// What a liveness source is: the database, and what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePin {
    /// The database cluster's own identifier; `None` where the server does not tell.
    pub system: Option<String>,
    /// The database's name.
    pub database: String,
    /// The type of course ids.
    pub id_type: String,
    /// A hash of the query.
    pub query: String,
    /// The relations behind the query, partitions included; sorted.
    pub relations: Vec<RelationPin>,
}

/// Where in its history a database is; `None` where the server does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Position {
    /// Rises when a standby is promoted or a backup restored to a point in time.
    pub timeline: Option<u32>,
    /// The write-ahead log's position in bytes.
    pub lsn: Option<u64>,
}

impl SourcePin {
    /// Every way in which what is there differs from what was adopted, in words; empty if the pin holds. Relations that
    /// came, as new partitions do, add rows and hide none.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        let mut compare = |what: &str, before: &str, after: &str| {
            if before != after {
                differences.push(format!("{what} was {before} and is {after}"));
            }
        };
        let system = |pin: &Self| pin.system.clone().unwrap_or_else(|| "not told".to_owned());
        compare("the database cluster", &system(self), &system(now));
        compare("the database", &self.database, &now.database);
        compare("the type of course ids", &self.id_type, &now.id_type);
        compare("the query's hash", &self.query, &now.query);
        for relation in self.relations.iter().filter(|relation| !now.relations.contains(relation)) {
            let change = match now.relations.iter().find(|other| other.name == relation.name) {
                Some(other) if other.oid != relation.oid => "was replaced by another one of its name",
                Some(other) if other.kind != relation.kind => "is of another kind now",
                Some(_) => "has another definition now",
                None => "is no longer behind the query (detached, renamed or dropped)",
            };
            differences.push(format!("{} {change}", relation.name));
        }
        differences
    }
}

impl Position {
    /// Why the database's history is not one line from `self` to `now`, in words (S7).
    pub fn broken_by(&self, now: &Self) -> Option<String> {
        if let (Some(before), Some(after)) = (self.timeline, now.timeline)
            && before != after
        {
            return Some(format!(
                "its timeline was {before} and is {after}: a standby was promoted, or a backup restored"
            ));
        }
        if let (Some(before), Some(after)) = (self.lsn, now.lsn)
            && after < before
        {
            return Some(format!("its log went back by {} bytes: an older copy was restored", before - after));
        }
        None
    }
}

/// What became of a source's history since it was last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum History {
    /// One line.
    Whole,
    /// It broke, as these words say, and the ledger's with it, which shows that nothing was lost.
    Proven(String),
    /// It broke, as these words say: nobody knows what was lost.
    Broken(String),
}

impl History {
    /// Judges the way from where a source was last seen to where the pass began, and on to where its live set was read: the log
    /// may have caught up in between. `proven`: the ledger is in the same running server, and its counts are those of the markers.
    pub fn judge(last_seen: &Position, began: &Position, read: &Position, proven: bool) -> Self {
        match last_seen.broken_by(began).or_else(|| began.broken_by(read)) {
            None => Self::Whole,
            Some(why) if proven => Self::Proven(why),
            Some(why) => Self::Broken(why),
        }
    }
}

/// Why a run halts before any store is touched: this is not the place, or not the truth, that was adopted (S7).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misplaced {
    /// A liveness source is not what was adopted.
    #[error(
        "liveness source {source_name} is not what was adopted: {}; if that is right, look at `course-gc adopt`, and confirm \
         with `--yes`",
        differences.join("; ")
    )]
    Source {
        /// The source.
        source_name: String,
        /// What differs.
        differences: Vec<String>,
    },
    /// The ledger is not the latest.
    #[error(transparent)]
    Ledger(#[from] LedgerBehind),
    /// Somebody else moved a marker in the same moment.
    #[error(
        "store {0}: somebody else moved its marker in this moment: an installation that adopts it too, or another collector with a \
         copy of this ledger"
    )]
    Contended(String),
}

/// Compares the liveness sources with their pins. A source that is configured no longer is as wrong as one that was changed:
/// what it kept alive would look dead.
///
/// # Errors
/// For the first one that is not what was adopted.
pub fn judge_sources<'a>(
    pinned: impl IntoIterator<Item = (&'a str, &'a SourcePin)>,
    now: &[(String, SourcePin, Position)],
) -> Result<(), Misplaced> {
    let mut new: Vec<&str> = now.iter().map(|(name, ..)| name.as_str()).collect();
    for (source, pin) in pinned {
        new.retain(|name| *name != source);
        let differences = match now.iter().find(|(name, ..)| name == source) {
            Some((_, found, _)) => pin.differences(found),
            None => vec!["it is no longer configured".to_owned()],
        };
        if !differences.is_empty() {
            return Err(Misplaced::Source { source_name: source.to_owned(), differences });
        }
    }
    match new.first() {
        Some(source) => {
            let differences = vec!["it was added since".to_owned()];
            Err(Misplaced::Source { source_name: (*source).to_owned(), differences })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(name: &str, oid: u32) -> RelationPin {
        RelationPin { name: name.into(), oid, kind: "r".into(), definition: None }
    }

    fn pin() -> SourcePin {
        SourcePin {
            system: Some("7".into()),
            database: "campus".into(),
            id_type: "uuid".into(),
            query: "abc".into(),
            relations: vec![relation("public.courses", 1), relation("public.old", 2)],
        }
    }

    #[test]
    fn s7_the_same_source_holds_and_new_partitions_do_not_matter() {
        let mut now = pin();
        assert!(pin().differences(&now).is_empty());
        now.relations.push(relation("public.courses_2027", 3));
        assert!(pin().differences(&now).is_empty());
    }

    #[test]
    fn s7_every_other_difference_breaks_the_pin() {
        let changes: [fn(&mut SourcePin); 8] = [
            |pin| pin.system = Some("8".into()),
            |pin| pin.system = None,
            |pin| pin.database = "other".into(),
            |pin| pin.id_type = "integer".into(),
            |pin| pin.query = "def".into(),
            |pin| pin.relations[0].oid = 9,
            |pin| pin.relations[0].definition = Some("x".into()),
            |pin| _ = pin.relations.pop(),
        ];
        for change in changes {
            let mut now = pin();
            change(&mut now);
            assert_eq!(pin().differences(&now).len(), 1, "{now:?}");
        }
    }

    #[test]
    fn s7_a_difference_is_told_in_words() {
        let told = |change: fn(&mut SourcePin)| {
            let mut now = pin();
            change(&mut now);
            pin().differences(&now).join("; ")
        };
        assert_eq!(told(|pin| pin.system = None), "the database cluster was 7 and is not told");
        assert_eq!(told(|pin| pin.query = "def".into()), "the query's hash was abc and is def");
        assert_eq!(told(|pin| pin.relations[1].oid = 9), "public.old was replaced by another one of its name");
        assert_eq!(told(|pin| pin.relations[1].kind = "v".into()), "public.old is of another kind now");
        assert_eq!(told(|pin| pin.relations[1].definition = Some("x".into())), "public.old has another definition now");
        let gone = "public.courses is no longer behind the query (detached, renamed or dropped)";
        assert_eq!(told(|pin| _ = pin.relations.remove(0)), gone);
    }

    #[test]
    fn s7_a_break_is_seen_wherever_it_comes_and_forgiven_only_with_a_proof() {
        let at = |timeline, lsn| Position { timeline: Some(timeline), lsn: Some(lsn) };
        let judge = |began, read, proven| History::judge(&at(1, 10), &began, &read, proven);
        assert_eq!(judge(at(1, 11), at(1, 12), false), History::Whole);
        assert!(matches!(judge(at(2, 11), at(2, 12), false), History::Broken(_)));
        assert!(matches!(judge(at(1, 12), at(1, 11), false), History::Broken(_)), "between the lock and the live set");
        assert!(matches!(judge(at(2, 11), at(2, 12), true), History::Proven(_)));
    }

    #[test]
    fn s7_a_source_that_went_or_came_halts() {
        let now = |names: &[&str]| -> Vec<_> {
            names.iter().map(|name| ((*name).to_owned(), pin(), Position::default())).collect()
        };
        let pins = [("a".to_owned(), pin()), ("b".to_owned(), pin())];
        let judge = |now: &[_]| judge_sources(pins.iter().map(|(name, pin)| (name.as_str(), pin)), now);
        assert_eq!(judge(&now(&["a", "b"])), Ok(()));
        assert!(judge(&now(&["a"])).unwrap_err().to_string().contains("no longer configured"));
        assert!(judge(&now(&["a", "b", "c"])).unwrap_err().to_string().contains("added"));
    }

    #[test]
    fn s7_each_source_is_compared_with_its_own_pin() {
        let other = SourcePin { database: "other".into(), ..pin() };
        let found = |one: &SourcePin, two: &SourcePin| {
            let now = [("a", one), ("b", two)].map(|(name, pin)| (name.to_owned(), pin.clone(), Position::default()));
            judge_sources([("a", &pin()), ("b", &other)], &now)
        };
        assert_eq!(found(&pin(), &other), Ok(()));
        assert!(matches!(found(&other, &pin()), Err(Misplaced::Source { source_name, .. }) if source_name == "a"));
    }

    #[test]
    fn s7_history_breaks_at_a_new_timeline_or_when_the_log_goes_back() {
        let at = |timeline, lsn| Position { timeline: Some(timeline), lsn: Some(lsn) };
        assert_eq!(at(1, 10).broken_by(&at(1, 10)), None);
        assert_eq!(at(1, 10).broken_by(&at(1, 11)), None);
        assert!(at(1, 10).broken_by(&at(1, 9)).is_some());
        assert!(at(1, 10).broken_by(&at(2, 11)).is_some());
        assert_eq!(Position::default().broken_by(&at(2, 11)), None, "a server that told nothing tells no break");
    }
}
