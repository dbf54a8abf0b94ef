//! The statements that install and remove the trigger. Pure.
//!
//! - A statement's trigger with a transition table, not a row's: a mass delete costs one insert, and rows that an UPDATE moves between
//!   partitions are no deaths to it. Such triggers are not inherited, so each partition has its own, which hears what is said to that
//!   partition directly; what is said to the table is heard there, once.
//! - Whatever goes wrong in the trigger becomes a warning. It waits a second at most for a lock of ours.
//! - NOTIFY is for who asks for it: Postgres lets no transaction that notifies be prepared for a commit in two phases, and has those that
//!   notify commit one after the other. A full queue would make the commit fail, so that nobody is notified long before it is.
//! - Statements are run one by one: one transaction for all would hold the application's table and ours at once, and could deadlock with
//!   a delete.

/// Everything lies in this schema.
pub(super) const TABLE: &str = "course_gc.tombstones";
/// The trigger that hears of deletes; and, with this ending, of TRUNCATE.
pub(super) const TRIGGER: &str = "course_gc_bury";
/// Where a hint is given that somebody was buried.
pub(super) const CHANNEL: &str = "course_gc_bury";
/// How long one statement may wait for the application's transactions; others wait behind it meanwhile.
pub(super) const PATIENCE: &str = "SET lock_timeout = '2s'";

const CREATE_TABLE: &str = "CREATE TABLE IF NOT EXISTS course_gc.tombstones (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    course_id text COLLATE \"C\" NOT NULL,
    buried_at timestamptz NOT NULL DEFAULT now()
)";

/// With `{notify}` where the hint is given, if it is.
const CREATE_FUNCTION: &str = r"CREATE OR REPLACE FUNCTION course_gc.bury() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '1s'
AS $bury$
BEGIN
    BEGIN
        -- A type of somebody's own would run that somebody's functions with the rights of this one.
        IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = TG_RELID AND attname = TG_ARGV[0] AND NOT attisdropped
                       AND atttypid = ANY ('{uuid,bigint,integer,smallint,text,varchar,bpchar}'::regtype[])) THEN
            RAISE EXCEPTION 'it has no column % that could be an id', TG_ARGV[0];
        END IF;
        EXECUTE format('INSERT INTO course_gc.tombstones (course_id) SELECT DISTINCT %1$I::text FROM %2$s WHERE %1$I IS NOT NULL',
            TG_ARGV[0], CASE TG_OP WHEN 'TRUNCATE' THEN 'ONLY ' || TG_RELID::regclass::text ELSE 'deleted' END);{notify}
    EXCEPTION WHEN OTHERS THEN
        RAISE WARNING 'course-gc has no tombstone for what was deleted from %.%: %', TG_TABLE_SCHEMA, TG_TABLE_NAME, SQLERRM;
    END;
    RETURN NULL;
END
$bury$";

const NOTIFY: &str = r"
        -- The commit would fail if the queue were full.
        IF pg_notification_queue_usage() < 0.5 THEN
            PERFORM pg_notify('course_gc_bury', '');
        END IF;";

/// What is to be watched, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Watch<'a> {
    /// The column with the course's id.
    pub column: &'a str,
    /// The table and its partitions, quoted, with their schemas.
    pub relations: Vec<String>,
    /// The role that reads the tombstones.
    pub role: &'a str,
    /// The schema is there already.
    pub has_schema: bool,
    /// A hint is given as well.
    pub notify: bool,
}

/// What installs the trigger, or brings it up to date.
pub(super) fn install(watch: &Watch<'_>) -> Vec<String> {
    let mut statements = Vec::new();
    if !watch.has_schema {
        statements.push("CREATE SCHEMA IF NOT EXISTS course_gc".to_owned());
    }
    let role = identifier(watch.role);
    statements.extend([
        CREATE_TABLE.to_owned(),
        CREATE_FUNCTION.replace("{notify}", if watch.notify { NOTIFY } else { "" }),
        // Who could call it could record deaths that never were.
        "REVOKE ALL ON FUNCTION course_gc.bury() FROM PUBLIC".to_owned(),
        format!("GRANT USAGE ON SCHEMA course_gc TO {role}"),
        format!("GRANT SELECT, DELETE ON {TABLE} TO {role}"),
    ]);
    let column = literal(watch.column);
    for relation in &watch.relations {
        statements.push(format!(
            "CREATE OR REPLACE TRIGGER {TRIGGER} AFTER DELETE ON {relation} REFERENCING OLD TABLE AS deleted \
             FOR EACH STATEMENT EXECUTE FUNCTION course_gc.bury({column})"
        ));
        statements.push(format!(
            "CREATE OR REPLACE TRIGGER {TRIGGER}_all BEFORE TRUNCATE ON {relation} \
             FOR EACH STATEMENT EXECUTE FUNCTION course_gc.bury({column})"
        ));
    }
    statements
}

/// What removes it: the triggers first, so that no delete ever calls what is gone. The schema stays.
pub(super) fn remove(relations: &[String]) -> Vec<String> {
    let triggers = relations.iter().flat_map(|relation| {
        [TRIGGER.to_owned(), format!("{TRIGGER}_all")]
            .map(|trigger| format!("DROP TRIGGER IF EXISTS {trigger} ON {relation}"))
    });
    let rest = ["DROP FUNCTION IF EXISTS course_gc.bury()".to_owned(), format!("DROP TABLE IF EXISTS {TABLE}")];
    triggers.chain(rest).collect()
}

/// A name as an identifier.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as a literal; `E` makes a backslash one whatever the server's settings are.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> Watch<'static> {
        Watch {
            column: "id",
            relations: vec!["public.courses".to_owned(), "public.part_one".to_owned()],
            role: "course_gc",
            has_schema: false,
            notify: false,
        }
    }

    #[test]
    fn s6_the_triggers_come_last_and_go_first() {
        let install = install(&watch());
        let first_trigger = install.iter().position(|statement| statement.contains("TRIGGER course")).unwrap();
        assert!(install[first_trigger..].iter().all(|statement| statement.starts_with("CREATE OR REPLACE TRIGGER")));
        assert_eq!(install.len() - first_trigger, 4, "two for each relation");
        let remove = remove(&watch().relations);
        assert!(remove[..4].iter().all(|statement| statement.starts_with("DROP TRIGGER")), "{remove:?}");
        assert!(remove[4].starts_with("DROP FUNCTION") && remove[5].starts_with("DROP TABLE"), "{remove:?}");
    }

    #[test]
    fn a_schema_that_is_there_is_not_created_again() {
        // It would need rights on the database, even so.
        let with = install(&watch());
        let without = install(&Watch { has_schema: true, ..watch() });
        assert_eq!(with[0], "CREATE SCHEMA IF NOT EXISTS course_gc");
        assert_eq!(with[1..], without);
    }

    #[test]
    fn nobody_is_notified_who_did_not_ask() {
        let silent = install(&watch());
        assert!(!silent.iter().any(|statement| statement.contains("notify")), "{silent:?}");
        let told = install(&Watch { notify: true, ..watch() });
        let function = told.iter().find(|statement| statement.contains("FUNCTION course_gc.bury()")).unwrap();
        assert!(function.contains(&format!("PERFORM pg_notify('{CHANNEL}', '')")), "{function}");
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(identifier(r#"o"dd"#), r#""o""dd""#);
        assert_eq!(literal(r"it's\"), r"E'it''s\\'");
    }
}
