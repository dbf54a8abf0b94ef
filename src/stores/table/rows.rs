//! Counting rows by what they name. Postgres groups them; what a group names is judged here.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};

use super::relation::Relation;
use super::session::Session;
use crate::domain::ids::{CourseId, IdType};
use crate::domain::inventory::{Amount, Census, SourceIndex};
use crate::postgres::PostgresError;
use crate::stores::Handle;

/// How many courses one question is about.
pub(super) const COURSES: usize = 1000;

/// What rows name, as it is written, and how many such rows there are.
pub(super) struct Group {
    names: Vec<Option<String>>,
    rows: u64,
}

/// Whose a row is.
#[derive(Debug, PartialEq, Eq)]
enum Owners {
    /// These courses', and nobody else's; at least one.
    Courses(BTreeSet<CourseId>),
    /// It names something that is no id; and these courses, which may be none.
    Unrecognised(BTreeSet<CourseId>),
}

fn owners(id_type: IdType, names: &[Option<String>]) -> Owners {
    let parse = |name: &Option<String>| name.as_ref().and_then(|name| id_type.parse(name.as_bytes()));
    let courses: BTreeSet<CourseId> = names.iter().filter_map(parse).collect();
    if !names.is_empty() && names.iter().all(|name| parse(name).is_some()) {
        Owners::Courses(courses)
    } else {
        Owners::Unrecognised(courses)
    }
}

/// What is shown of rows that are nobody's.
fn shown(names: &[Option<String>]) -> String {
    match names {
        [] => "NULL".to_owned(),
        [Some(name)] => name.clone(),
        names => {
            let names: Vec<&str> = names.iter().map(|name| name.as_deref().unwrap_or("NULL")).collect();
            format!("{{{}}}", names.join(","))
        }
    }
}

/// Enters all rows of a table into the census.
pub(super) async fn count(
    session: &mut Session<'_>,
    relation: &Relation,
    id_type: IdType,
    (source, census): (SourceIndex, &mut Census),
) -> Result<(), PostgresError> {
    const ACTION: &str = "counting the rows of a table by course";
    let postgres = session.postgres;
    // The sum of 64-bit hashes, whatever order the rows come in.
    let query = format!(
        "SELECT {named} AS named, count(*) AS rows, sum({size})::int8 AS bytes, \
         mod(sum(hashtextextended({identity} COLLATE \"C\", 0)::numeric), 18446744073709551616)::text AS fingerprint \
         {from} GROUP BY 1",
        named = relation.naming.named(),
        size = relation.size(),
        identity = relation.identity(),
        from = relation.from()
    );
    let mut rows = sqlx::query(AssertSqlSafe(query)).fetch(&mut session.connection);
    while let Some(row) = postgres.call(ACTION, rows.try_next()).await? {
        let (names, amount) = amount(relation, &row).map_err(|error| postgres.failed(ACTION, error))?;
        enter(id_type, (source, &mut *census), &names, amount);
    }
    Ok(())
}

fn amount(relation: &Relation, row: &PgRow) -> Result<(Vec<Option<String>>, Amount), sqlx::Error> {
    let fingerprint: i128 =
        row.try_get::<String, _>(3)?.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    let amount = Amount {
        resources: u64::try_from(row.try_get::<i64, _>(1)?).unwrap_or(0),
        bytes: u64::try_from(row.try_get::<i64, _>(2)?).ok(),
        fingerprint: u64::try_from(fingerprint.rem_euclid(1 << 64)).unwrap_or(0),
    };
    Ok((relation.naming.read(row, 0)?, amount))
}

fn enter(id_type: IdType, (source, census): (SourceIndex, &mut Census), names: &[Option<String>], amount: Amount) {
    match owners(id_type, names) {
        Owners::Courses(courses) => {
            for course in &courses {
                let others = || courses.iter().copied().filter(|other| other != course).collect();
                census.observe(source, *course, amount, others);
            }
        }
        Owners::Unrecognised(courses) => {
            census.unrecognised(source, shown(names).as_bytes(), amount.resources);
            for course in courses {
                if census.is_live(course) {
                    census.observe(source, course, amount, Vec::new);
                } else {
                    census.entangled(source, course, amount.resources);
                }
            }
        }
    }
}

/// Rows that name one of these courses, by what they name.
pub(super) async fn find(
    session: &mut Session<'_>,
    relation: &Relation,
    courses: &[CourseId],
) -> Result<Vec<Group>, PostgresError> {
    const ACTION: &str = "looking for rows of given courses";
    let postgres = session.postgres;
    let query = format!(
        "SELECT {named} AS named, count(*) AS rows {from} AND {any} GROUP BY 1",
        named = relation.naming.named(),
        from = relation.from(),
        any = relation.naming.any_of(courses)
    );
    let rows = sqlx::query(AssertSqlSafe(query)).fetch_all(&mut session.connection);
    let rows = postgres.call(ACTION, rows).await?;
    let group = |row: &PgRow| {
        let rows = u64::try_from(row.try_get::<i64, _>(1)?).unwrap_or(0);
        Ok(Group { names: relation.naming.read(row, 0)?, rows })
    };
    rows.iter().map(group).collect::<Result<_, _>>().map_err(|error| postgres.failed(ACTION, error))
}

/// A handle for each set of courses that rows name, found by asking for `asked`. Of a set with several that are wanted the first
/// one is the owner, so that no row has two handles.
pub(super) fn handles(
    id_type: IdType,
    source: SourceIndex,
    (asked, found): (&[CourseId], Vec<Group>),
    wanted: impl Fn(CourseId) -> bool,
) -> Vec<Handle> {
    let sets: BTreeSet<BTreeSet<CourseId>> = found
        .iter()
        .filter_map(|group| match owners(id_type, &group.names) {
            Owners::Courses(courses) => Some(courses),
            Owners::Unrecognised(_) => None,
        })
        .collect();
    let handle = |courses: BTreeSet<CourseId>| {
        let owner = courses.iter().copied().find(|course| wanted(*course))?;
        let mentions: Vec<CourseId> = courses.into_iter().filter(|course| *course != owner).collect();
        // The course is the handle; who shares its rows tells one from another.
        let key: Vec<String> = mentions.iter().map(CourseId::to_string).collect();
        asked.contains(&owner).then(|| Handle { source, owner, mentions, key: Bytes::from(key.join(",")) })
    };
    sets.into_iter().filter_map(handle).collect()
}

/// How many rows name each of the courses, among whatever else.
pub(super) fn by_course(id_type: IdType, courses: &[CourseId], found: &[Group]) -> BTreeMap<CourseId, u64> {
    let mut counts: BTreeMap<CourseId, u64> = courses.iter().map(|course| (*course, 0)).collect();
    for group in found {
        let (Owners::Courses(named) | Owners::Unrecognised(named)) = owners(id_type, &group.names);
        for course in named {
            counts.entry(course).and_modify(|count| *count += group.rows);
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[Option<&str>]) -> Vec<Option<String>> {
        names.iter().map(|name| name.map(str::to_owned)).collect()
    }

    #[test]
    fn s5_one_name_that_is_no_id_makes_a_row_nobodys() {
        let (one, two) = (CourseId::Integer(1), CourseId::Integer(2));
        let judge = |some: &[Option<&str>]| owners(IdType::Integer, &names(some));
        assert_eq!(judge(&[Some("1")]), Owners::Courses(BTreeSet::from([one])));
        assert_eq!(judge(&[Some("2"), Some("1"), Some("2")]), Owners::Courses(BTreeSet::from([one, two])));
        assert_eq!(judge(&[Some("1"), None]), Owners::Unrecognised(BTreeSet::from([one])));
        assert_eq!(judge(&[Some("1"), Some("02")]), Owners::Unrecognised(BTreeSet::from([one])));
        assert_eq!(judge(&[]), Owners::Unrecognised(BTreeSet::new()));
    }

    #[test]
    fn s5_a_row_of_several_courses_has_one_handle_that_names_the_others() {
        let courses = [1, 2, 3].map(CourseId::Integer);
        let group = |some: &[Option<&str>]| Group { names: names(some), rows: 1 };
        let found = || {
            vec![
                group(&[Some("2")]),
                group(&[Some("3"), Some("2")]),
                group(&[Some("2"), Some("3"), Some("3")]),
                group(&[Some("1"), Some("2")]),
                group(&[Some("2"), Some("x")]),
            ]
        };
        let located = |asked: &[CourseId]| {
            let wanted = |course| course == courses[1] || course == courses[2];
            let handles = handles(IdType::Integer, SourceIndex(0), (asked, found()), wanted);
            handles.into_iter().map(|handle| (handle.owner, handle.mentions)).collect::<Vec<_>>()
        };
        let all = located(&courses[1..]);
        assert_eq!(all, [(courses[1], vec![courses[0]]), (courses[1], vec![]), (courses[1], vec![courses[2]])]);
        assert_eq!(located(&courses[2..]), [], "whoever asks for the first one finds it");
        assert_eq!(by_course(IdType::Integer, &courses[2..], &found()), BTreeMap::from([(courses[2], 2)]));
    }
}
