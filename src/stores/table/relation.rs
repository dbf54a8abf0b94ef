//! What a configured table is, from Postgres's own catalog, and the SQL that speaks of its rows.
//!
//! Refused is whatever could make a delete do something else than take these rows: views and foreign tables, rules, tables that
//! others inherit from, and rows that others cascade from, since what goes with them would not have been copied.

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::TableSource;
use super::session::Session;
use crate::domain::ids::{CourseId, IdType};
use crate::postgres::PostgresError;

/// What a row is called in our SQL. Unlike any name that a filter of an operator's would use.
pub(super) const ROW: &str = "course_gc_row";

/// A table as it is now.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    /// Its number in this database.
    pub oid: i64,
    /// Its name with its schema, as configured.
    pub name: String,
    /// The same, as SQL.
    pub sql: String,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// The columns of its primary key; empty if it has none.
    pub primary: Vec<String>,
    /// Every set of columns that no two rows share, with the operators that say so.
    pub keys: Vec<Vec<KeyColumn>>,
    /// The column that names the course.
    pub naming: Naming,
    filter: Option<String>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub name: String,
    /// True if Postgres computes it from the others.
    pub generated: bool,
}

/// A column of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyColumn {
    pub column: String,
    /// What compares it, with its schema.
    pub equals: String,
}

/// How a column names courses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Naming {
    /// The column, as SQL.
    sql: String,
    /// The type in which ids are compared: `uuid`, `int8` or `text`.
    compared: &'static str,
    /// True if a row may name several.
    pub many: bool,
}

/// A name as SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Ids as an array; they hold nothing that would have to be escaped, but one may be the word `null`.
fn array(courses: &[CourseId], of: &str) -> String {
    let ids: Vec<String> = courses.iter().map(|id| format!("\"{id}\"")).collect();
    format!("'{{{}}}'::{of}[]", ids.join(","))
}

impl Naming {
    /// The naming of a column of this type; `array` if it holds several.
    fn new(column: &str, id_type: IdType, base: &str, many: bool) -> Result<Self, String> {
        let sql = format!("{ROW}.{}", quoted(column));
        let compared = match (id_type, base) {
            (IdType::Uuid, "uuid") => "uuid",
            (IdType::Integer, "int2" | "int4" | "int8") => "int8",
            (_, "text" | "varchar") => "text",
            _ => {
                let right = match id_type {
                    IdType::Uuid => "uuid, text or varchar, or arrays of them, for `course_id: uuid`",
                    IdType::Integer => {
                        "bigint, integer, smallint, text or varchar, or arrays of them, for `course_id: integer`"
                    }
                    IdType::Text(_) => "text or varchar, or arrays of them, for `course_id: text:…`",
                };
                let array = if many { "[]" } else { "" };
                return Err(format!(
                    "column `{column}` is of type {base}{array}; it should be {right}. Where the id is inside jsonb, add a \
                     generated column that takes it out"
                ));
            }
        };
        Ok(Self { sql, compared, many })
    }

    /// Rows that name one of these courses, among others.
    pub(super) fn any_of(&self, courses: &[CourseId]) -> String {
        let Self { sql, compared, many } = self;
        let ids = array(courses, compared);
        match (many, *compared == "text") {
            (false, false) => format!("{sql} = ANY({ids})"),
            // First as an index has it, then byte for byte.
            (false, true) => format!("({sql} = ANY({ids}) AND {sql} COLLATE \"C\" = ANY({ids}))"),
            (true, false) => format!("{sql}::{compared}[] && {ids}"),
            (true, true) => format!("({sql}::text[] && {ids} AND {sql}::text[] COLLATE \"C\" && {ids})"),
        }
    }

    /// Rows that name all of these courses, and nothing else.
    pub(super) fn exactly(&self, courses: &[CourseId]) -> String {
        let Self { sql, compared, many } = self;
        let ids = array(courses, compared);
        match (many, courses) {
            (false, [_]) => self.any_of(courses),
            (false, _) => "false".to_owned(),
            (true, _) => {
                let exact = if *compared == "text" { " COLLATE \"C\"" } else { "" };
                let column = format!("{sql}::{compared}[]{exact}");
                format!("({} AND {column} @> {ids} AND {column} <@ {ids})", self.any_of(courses))
            }
        }
    }

    /// What a row names, as an array of texts, or as a text where it is one; NULL where it names nothing.
    pub(super) fn named(&self) -> String {
        let Self { sql, compared, many } = self;
        match many {
            false => format!("{sql}::text COLLATE \"C\""),
            true => format!(
                "CASE WHEN {sql} IS NOT NULL THEN ARRAY(SELECT one::text COLLATE \"C\" FROM \
                 pg_catalog.unnest({sql}::{compared}[]) AS each(one)) END"
            ),
        }
    }

    /// What a row of [`Naming::named`] says.
    pub(super) fn read(&self, row: &PgRow, index: usize) -> Result<Vec<Option<String>>, sqlx::Error> {
        if self.many {
            return Ok(row.try_get::<Option<Vec<Option<String>>>, _>(index)?.unwrap_or_default());
        }
        Ok(row.try_get::<Option<String>, _>(index)?.map(Some).into_iter().collect())
    }
}

impl Relation {
    /// `FROM … WHERE …`, to which a condition may be added by AND.
    pub(super) fn from(&self) -> String {
        format!("FROM {} AS {ROW} WHERE {}", self.sql, self.concerned())
    }

    /// The operator's filter.
    pub(super) fn concerned(&self) -> String {
        // The line break ends a comment.
        self.filter.as_ref().map_or_else(|| "true".to_owned(), |filter| format!("({filter}\n)"))
    }

    /// What a row takes, in bytes, as it is stored.
    pub(super) fn size(&self) -> String {
        let sizes =
            self.columns.iter().map(|column| format!("coalesce(pg_column_size({ROW}.{}), 0)", quoted(&column.name)));
        // A row's own header.
        std::iter::once("24".to_owned()).chain(sizes).collect::<Vec<_>>().join(" + ")
    }

    /// The primary key's values as a text; NULL without one.
    pub(super) fn key(&self) -> String {
        if self.primary.is_empty() {
            return "NULL::text".to_owned();
        }
        let columns: Vec<String> = self.primary.iter().map(|column| format!("{ROW}.{}", quoted(column))).collect();
        format!("ROW({})::text", columns.join(", "))
    }

    /// What tells a row from others: its key, or all of it.
    pub(super) fn identity(&self) -> String {
        if self.primary.is_empty() { format!("{ROW}::text") } else { self.key() }
    }
}

/// Looks at a source's table.
///
/// # Errors
/// The outer: if Postgres does not answer. The inner: what is wrong with the table, and what to do.
pub(super) async fn look(
    session: &mut Session<'_>,
    source: &TableSource,
    id_type: IdType,
) -> Result<Result<Relation, String>, PostgresError> {
    const ACTION: &str = "looking at the table";
    let postgres = session.postgres;
    let find = sqlx::query(TABLE).bind(&source.schema).bind(&source.table).fetch_optional(&mut session.connection);
    let Some(found) = postgres.call(ACTION, find).await? else {
        return Ok(Err("there is no such table".to_owned()));
    };
    let read = |error| postgres.failed(ACTION, error);
    let oid: i64 = found.try_get("oid").map_err(read)?;
    if let Some(problem) = found.try_get::<Option<String>, _>("problem").map_err(read)? {
        return Ok(Err(problem));
    }
    let columns = sqlx::query(COLUMNS).bind(oid).fetch_all(&mut session.connection);
    let columns = postgres.call(ACTION, columns).await?;
    let keys = sqlx::query(KEYS).bind(oid).fetch_all(&mut session.connection);
    let keys = postgres.call(ACTION, keys).await?;
    describe(source, id_type, oid, &columns, &keys).map_err(read)
}

fn describe(
    source: &TableSource,
    id_type: IdType,
    oid: i64,
    columns: &[PgRow],
    keys: &[PgRow],
) -> Result<Result<Relation, String>, sqlx::Error> {
    let mut naming = Err(format!("it has no column `{}`", source.column));
    let mut known = Vec::with_capacity(columns.len());
    for column in columns {
        let name: String = column.try_get("name")?;
        if name == source.column {
            naming = Naming::new(&name, id_type, column.try_get("base")?, column.try_get("many")?);
        }
        known.push(Column { name, generated: column.try_get("generated")? });
    }
    let (mut primary, mut others) = (Vec::new(), Vec::new());
    for key in keys {
        let names: Vec<String> = key.try_get("columns")?;
        let equals: Vec<String> = key.try_get("equals")?;
        if key.try_get("is_primary")? {
            primary = names.clone();
        }
        let columns = names.into_iter().zip(equals);
        others.push(columns.map(|(column, equals)| KeyColumn { column, equals }).collect());
    }
    Ok(naming.map(|naming| Relation {
        oid,
        name: source.name(),
        sql: source.sql(),
        columns: known,
        primary,
        keys: others,
        naming,
        filter: source.filter.clone(),
    }))
}

/// The table's number, and why it cannot be used.
const TABLE: &str = "\
SELECT c.oid::int8 AS oid, CASE \
    WHEN c.relkind NOT IN ('r', 'p') THEN 'it is ' || CASE c.relkind WHEN 'v' THEN 'a view' WHEN 'm' THEN 'a materialized view' \
        WHEN 'f' THEN 'a foreign table' ELSE 'no table' END || '; name the tables behind it, where they are' \
    WHEN c.relpersistence = 't' THEN 'it is a temporary table' \
    WHEN c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid) \
        THEN 'other tables inherit from it; name each of them instead' \
    WHEN EXISTS (SELECT FROM pg_partition_tree(c.oid) p JOIN pg_class x ON x.oid = p.relid WHERE x.relkind = 'f') \
        THEN 'one of its partitions is a foreign table; name the other partitions instead' \
    WHEN EXISTS (SELECT FROM pg_rewrite w WHERE w.ev_class = c.oid AND w.ev_type IN ('3', '4')) \
        THEN 'it has a rule for INSERT or DELETE, so that nobody knows what a delete does; use a trigger instead' \
    ELSE (SELECT 'rows of ' || f.conrelid::regclass || ' go or change with its rows (' || f.conname || ' is not RESTRICT or NO \
        ACTION), and would not be copied; make that constraint RESTRICT' \
        FROM pg_constraint f WHERE f.contype = 'f' AND f.confdeltype NOT IN ('a', 'r') AND (f.confrelid = c.oid \
        OR f.confrelid IN (SELECT relid FROM pg_partition_tree(c.oid))) ORDER BY f.oid LIMIT 1) \
    END AS problem \
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2";

/// The columns, with what their types come down to: a domain to its base, an array to its element.
const COLUMNS: &str = "\
WITH RECURSIVE down(attnum, oid, many) AS ( \
    SELECT a.attnum, a.atttypid, false FROM pg_attribute a WHERE a.attrelid = $1::int8::oid AND a.attnum > 0 AND NOT a.attisdropped \
    UNION ALL \
    SELECT d.attnum, CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.typelem END, d.many OR t.typtype <> 'd' \
    FROM down d JOIN pg_type t ON t.oid = d.oid \
    WHERE t.typtype = 'd' OR (NOT d.many AND t.typelem <> 0 AND t.typsubscript = 'array_subscript_handler'::regproc)) \
SELECT a.attname::text AS name, a.attgenerated <> '' AS generated, b.many, \
    CASE WHEN n.nspname = 'pg_catalog' THEN t.typname::text ELSE n.nspname || '.' || t.typname END AS base \
FROM pg_attribute a \
JOIN LATERAL (SELECT d.oid, d.many FROM down d JOIN pg_type x ON x.oid = d.oid WHERE d.attnum = a.attnum AND x.typtype <> 'd' \
    ORDER BY d.many DESC LIMIT 1) b ON true \
JOIN pg_type t ON t.oid = b.oid JOIN pg_namespace n ON n.oid = t.typnamespace \
WHERE a.attrelid = $1::int8::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

/// The keys on plain columns and all rows, with the operators by which their indexes find two rows equal.
const KEYS: &str = "\
SELECT i.indisprimary AS is_primary, array_agg(a.attname::text ORDER BY k.place) AS columns, \
    array_agg(format('OPERATOR(%I.%s)', n.nspname, o.oprname) ORDER BY k.place) AS equals \
FROM pg_index i CROSS JOIN LATERAL generate_series(0, i.indnkeyatts - 1) AS k(place) \
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.place] \
JOIN pg_opclass c ON c.oid = i.indclass[k.place] \
JOIN pg_amop m ON m.amopfamily = c.opcfamily AND m.amopstrategy = 3 AND m.amoplefttype = c.opcintype \
    AND m.amoprighttype = c.opcintype \
JOIN pg_operator o ON o.oid = m.amopopr JOIN pg_namespace n ON n.oid = o.oprnamespace \
WHERE i.indrelid = $1::int8::oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL \
GROUP BY i.indexrelid, i.indisprimary ORDER BY i.indexrelid";
