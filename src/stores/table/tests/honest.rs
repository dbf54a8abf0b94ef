use super::*;

const TABLE: &str = "CREATE TABLE t (n int PRIMARY KEY, course_id bigint, deleted boolean DEFAULT false); \
                     INSERT INTO t (n, course_id) VALUES (1, 1), (2, 1), (3, 2)";

/// What an inventory says of a table that this SQL makes.
async fn refused(sql: &str, source: TableSource) -> String {
    let bed = Bed::with(sql).await;
    words(&inventory(&bed.store(IdType::Integer, &[source]), &[]).await.unwrap_err())
}

#[tokio::test]
async fn s4_what_is_no_table_of_rows_of_its_own_is_refused() {
    let foreign = "CREATE EXTENSION postgres_fdw; CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw;";
    for (sql, why) in [
        ("SELECT 1", "there is no such table"),
        ("CREATE VIEW t AS SELECT 1::bigint AS course_id", "it is a view"),
        ("CREATE MATERIALIZED VIEW t AS SELECT 1::bigint AS course_id", "it is a materialized view"),
        (&format!("{foreign} CREATE FOREIGN TABLE t (course_id bigint) SERVER s"), "it is a foreign table"),
        (
            &format!(
                "{foreign} CREATE TABLE t (course_id bigint) PARTITION BY LIST (course_id); \
                 CREATE FOREIGN TABLE p PARTITION OF t FOR VALUES IN (1) SERVER s"
            ),
            "one of its partitions is a foreign table",
        ),
        ("CREATE TABLE t (course_id bigint); CREATE TABLE u (x int) INHERITS (t)", "other tables inherit from it"),
        (
            "CREATE TABLE t (course_id bigint); CREATE RULE keep AS ON DELETE TO t DO INSTEAD NOTHING",
            "it has a rule for INSERT or DELETE",
        ),
        (
            "CREATE TABLE t (n int PRIMARY KEY, course_id bigint); \
             CREATE TABLE u (n int REFERENCES t ON DELETE CASCADE)",
            "rows of public.u go or change with its rows (u_n_fkey",
        ),
        ("CREATE TABLE t (id bigint)", "it has no column `course_id`"),
        ("CREATE TABLE t (course_id jsonb)", "column `course_id` is of type jsonb"),
        ("CREATE TABLE t (course_id uuid[])", "column `course_id` is of type uuid[]; it should be bigint"),
        ("CREATE TABLE t (course_id numeric)", "column `course_id` is of type numeric"),
    ] {
        let words = refused(sql, table("t")).await;
        assert!(words.contains(why), "{sql}: {words}");
    }
    let words = refused(TABLE, TableSource { filter: Some("no_such = 1".into()), ..table("t") }).await;
    assert!(words.contains("column \"no_such\" does not exist"), "{words}");
}

#[tokio::test]
async fn s4_a_right_that_is_missing_is_an_error() {
    let bed = Bed::with(TABLE).await;
    let (role, url) = bed.role().await;
    let store = store(&url, IdType::Integer, &[table("t")]);
    let error = words(&inventory(&store, &[]).await.unwrap_err());
    assert!(error.contains("permission denied for table t"), "{error}");

    bed.run(&format!("GRANT SELECT ON t TO {role}")).await;
    assert_eq!(inventory(&store, &[]).await.unwrap().sources[0].dead.len(), 2);
    let handles = contract::located(&store, &targets([integer(1)])).await;
    let mut items = Items::default();
    let error = words(&store.copy(&id(), &handles, &mut items).await.unwrap_err());
    assert!(error.contains("GRANT INSERT ON \"public\".\"t\"") && items.0.is_empty(), "S12: {error}");

    bed.run(&format!("GRANT INSERT ON t TO {role}")).await;
    let (handles, safe, _) = copy(&store, &[integer(1)]).await;
    let outcomes = delete(&store, handles, safe).await;
    assert!(cause(&outcomes).contains("permission denied for table t"), "{outcomes:?}");

    bed.run(&format!("GRANT DELETE ON t TO {role}")).await;
    let (handles, safe, items) = copy(&store, &[integer(1)]).await;
    let outcomes = delete(&store, handles, safe).await;
    assert!(matches!(outcomes[..], [Outcome::Deleted { resources: 2, .. }]), "{outcomes:?}");
    for (restoring, back) in [
        (Restoring::Look, PutBack::Restored),
        (Restoring::Missing, PutBack::Restored),
        (Restoring::Missing, PutBack::Exists),
        (Restoring::Overwrite, PutBack::Restored),
    ] {
        assert_eq!(store.put_back(&items, restoring).await, vec![back; 2], "no more rights are needed than these");
    }
    assert_eq!(bed.count("t").await, 3);
}

#[tokio::test]
async fn s4_a_policy_that_would_hide_rows_is_an_error() {
    let bed = Bed::with(TABLE).await;
    let (role, url) = bed.role().await;
    bed.run(&format!("GRANT SELECT, INSERT, DELETE ON t TO {role}; ALTER TABLE t ENABLE ROW LEVEL SECURITY")).await;
    let store = store(&url, IdType::Integer, &[table("t")]);
    for error in [inventory(&store, &[]).await.unwrap_err(), store.remaining(&targets([integer(1)])).await.unwrap_err()]
    {
        let words = words(&error);
        assert!(words.contains("would be affected by row-level security"), "{words}");
    }
}

#[tokio::test]
async fn s4_an_answer_that_takes_too_long_is_an_error() {
    let bed = Bed::with("CREATE TABLE t (course_id bigint); INSERT INTO t VALUES (1)").await;
    let slow = TableSource { filter: Some("pg_sleep(60) IS NOT NULL".into()), ..table("t") };
    let store = store_within(bed.database.url(), IdType::Integer, &[slow], Duration::from_secs(1));
    let handle = Handle { source: SOURCE, owner: integer(1), mentions: vec![], key: Default::default() };
    let outcomes = store.delete(&Condemned::for_test(vec![handle], FRESH)).await.outcomes;
    let words = cause(&outcomes);
    assert!(words.contains("statement timeout") || words.contains("no answer within"), "{words}");
    assert_eq!(bed.count("t").await, 1);
}

#[tokio::test]
async fn s11_a_trigger_that_keeps_rows_is_told_and_nothing_goes() {
    for body in [
        "IF OLD.n = 2 THEN RETURN NULL; END IF; RETURN OLD;",
        "UPDATE t SET deleted = true WHERE n = OLD.n; RETURN NULL;",
    ] {
        let bed = Bed::with(TABLE).await;
        bed.run(&format!(
            "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$; \
             CREATE TRIGGER keep BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION public.keep()"
        ))
        .await;
        let store = bed.store(IdType::Integer, &[table("t")]);
        let before = bed.texts("SELECT t::text FROM t ORDER BY n").await;
        let (handles, safe, _) = copy(&store, &[integer(1)]).await;
        let outcomes = delete(&store, handles.clone(), safe).await;
        assert!(matches!(&outcomes[..], [Outcome::Failed(_)]), "{outcomes:?}");
        let outcomes = store.delete(&Condemned::for_test(handles, FRESH)).await.outcomes;
        assert!(matches!(&outcomes[..], [Outcome::Failed(_)]), "{outcomes:?}");
        assert_eq!(bed.texts("SELECT t::text FROM t ORDER BY n").await, before);
        if body.contains("IF") {
            assert!(cause(&outcomes).contains("1 of 2 rows would have stayed"), "{outcomes:?}");
        }
    }
}

#[tokio::test]
async fn s11_a_row_that_others_need_fails_alone() {
    for when in ["", "DEFERRABLE INITIALLY DEFERRED"] {
        let bed = Bed::with(TABLE).await;
        bed.run(&format!("CREATE TABLE u (n int REFERENCES t {when}); INSERT INTO u VALUES (2)")).await;
        let store = bed.store(IdType::Integer, &[table("t")]);
        let (handles, safe, _) = copy(&store, &[integer(1), integer(2)]).await;
        let outcomes = delete(&store, handles, safe).await;
        let [Outcome::Failed(why), Outcome::Deleted { resources: 1, .. }] = &outcomes[..] else {
            panic!("{outcomes:?}")
        };
        assert!(why.contains("violates foreign key constraint \"u_n_fkey\" on table \"u\""), "{why}");
        assert_eq!(
            bed.texts("SELECT n::text FROM t ORDER BY n").await,
            [Some("1".into()), Some("2".into())],
            "all or none"
        );
    }
}

/// Somebody has written a row and not yet committed.
#[tokio::test]
async fn s2_a_delete_waits_for_a_writer_a_part_of_its_time_and_the_others_go() {
    let bed = Bed::with(TABLE).await;
    let store = bed.store(IdType::Integer, &[table("t")]);
    let (handles, safe, _) = copy(&store, &[integer(1), integer(2)]).await;
    let mut other = bed.connect().await;
    sqlx::raw_sql("BEGIN; UPDATE t SET deleted = true WHERE n = 1").execute(&mut other).await.unwrap();
    let good_for = Duration::from_secs(10);
    let outcomes = store.delete(&Condemned::for_test_copied(handles, safe, good_for)).await.outcomes;
    let all_but_the_written =
        [Outcome::Partly { resources: 0, bytes: Some(0), left: 2 }, Outcome::Deleted { resources: 1, bytes: Some(0) }];
    assert!(alike(&outcomes, &all_but_the_written), "{outcomes:?}");
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    assert_eq!(bed.count("t").await, 2, "and nothing goes late");
}

/// The same outcomes, whatever the bytes are.
fn alike(one: &[Outcome], other: &[Outcome]) -> bool {
    let counts = |outcome: &Outcome| match outcome {
        Outcome::Deleted { resources, .. } => Outcome::Deleted { resources: *resources, bytes: None },
        Outcome::Partly { resources, left, .. } => Outcome::Partly { resources: *resources, bytes: None, left: *left },
        other => other.clone(),
    };
    one.iter().map(counts).eq(other.iter().map(counts))
}

/// A transaction that writes a course's row, and commits when somebody waits for it: the delete's snapshot is older then.
async fn write_while_it_is_being_deleted(
    bed: &Bed,
    write: &str,
    deleting: impl Future<Output = Vec<Outcome>>,
) -> Vec<Outcome> {
    let mut writer = bed.connect().await;
    sqlx::raw_sql(AssertSqlSafe(format!("BEGIN; {write}"))).execute(&mut writer).await.unwrap();
    let commit = async {
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let mut watcher = bed.connect().await;
        let deadline = tokio::time::Instant::now() + CALL;
        while sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut watcher).await.unwrap() == 0 {
            assert!(tokio::time::Instant::now() < deadline, "the delete waits for the writer");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        sqlx::raw_sql("COMMIT").execute(&mut writer).await.unwrap();
    };
    tokio::join!(deleting, commit).0
}

#[tokio::test]
async fn s12_what_is_written_while_it_is_being_deleted_stays_and_the_others_go() {
    let absent = Outcome::Absent;
    let spared = Outcome::Partly { resources: 0, bytes: None, left: 2 };
    let gone = |resources| Outcome::Deleted { resources, bytes: None };
    for (write, first, left) in [
        ("UPDATE t SET deleted = true WHERE n = 1", &spared, &["1", "2"][..]),
        ("UPDATE t SET n = n WHERE n = 1", &spared, &["1", "2"]),
        ("UPDATE t SET course_id = 7 WHERE course_id = 1", &absent, &["1", "2"]),
        ("DELETE FROM t WHERE course_id = 1", &absent, &[]),
    ] {
        for copied in [true, false] {
            let bed = Bed::with(TABLE).await;
            let store = bed.store(IdType::Integer, &[table("t")]);
            let (handles, safe, items) = copy(&store, &[integer(1), integer(2)]).await;
            let batch = if copied {
                Condemned::for_test_copied(handles, safe, FRESH)
            } else {
                Condemned::for_test(handles, FRESH)
            };
            let deleting = async { store.delete(&batch).await.outcomes };
            let outcomes = write_while_it_is_being_deleted(&bed, write, deleting).await;
            assert!(alike(&outcomes, &[first.clone(), gone(1)]), "{write}: {outcomes:?}");
            let rows = bed.texts("SELECT n::text FROM t ORDER BY n").await;
            assert_eq!(rows, left.iter().map(|n| Some((*n).to_owned())).collect::<Vec<_>>(), "{write}");

            // The next run copies it as it is by then.
            if *first == spared {
                assert_eq!(store.put_back(&items, Restoring::Missing).await[..2], [PutBack::Exists, PutBack::Exists]);
                let (handles, safe, _) = copy(&store, &[integer(1)]).await;
                assert!(alike(&delete(&store, handles, safe).await, &[gone(2)]), "{write}");
            }
        }
    }
}

#[tokio::test]
async fn s12_what_moved_away_since_it_was_copied_stays() {
    let bed = Bed::with(TABLE).await;
    let store = bed.store(IdType::Integer, &[table("t")]);
    let (handles, safe, _) = copy(&store, &[integer(1)]).await;
    bed.run("UPDATE t SET course_id = 2 WHERE n = 1; UPDATE t SET deleted = NULL WHERE n = 2").await;
    let outcomes = delete(&store, handles, safe).await;
    assert!(matches!(outcomes[..], [Outcome::Partly { resources: 0, left: 1, .. }]), "{outcomes:?}");
    assert_eq!(bed.count("t").await, 3);
}

#[tokio::test]
async fn s5_what_names_several_courses_goes_when_all_are_dead() {
    let bed = Bed::with(
        "CREATE TABLE t (n int PRIMARY KEY, course_id text[]); INSERT INTO t VALUES \
         (1, '{1}'), (2, '{1,2}'), (3, '{{2,1},{1,2}}'), (4, '{1,3}'), (5, '{1,NULL}'), (6, '{1,x}'), (7, '{}'), (8, NULL), (9, '{01}')",
    )
    .await;
    let store = bed.store(IdType::Integer, &[table("t")]);
    let held = inventory(&store, &[integer(3)]).await.unwrap();
    let found = &held.sources[0].dead;
    assert_eq!((found[&integer(1)].amount.resources, found[&integer(1)].entangled), (3, 3));
    assert_eq!((found[&integer(2)].amount.resources, found[&integer(2)].entangled), (2, 0));
    assert_eq!(held.sources[0].unrecognised.count, 5);

    let mut handles = contract::located(&store, &targets([integer(1), integer(2)])).await;
    handles.retain(|handle| !handle.mentions.contains(&integer(3)));
    let named: Vec<_> = handles.iter().map(|handle| (handle.owner, handle.mentions.clone())).collect();
    assert_eq!(named, [(integer(1), vec![]), (integer(1), vec![integer(2)])]);
    let outcomes = store.delete(&Condemned::for_test(handles, FRESH)).await.outcomes;
    assert!(
        matches!(outcomes[..], [Outcome::Deleted { resources: 1, .. }, Outcome::Deleted { resources: 2, .. }]),
        "{outcomes:?}"
    );
    let left = bed.texts("SELECT n::text FROM t ORDER BY n").await;
    assert_eq!(left, [4, 5, 6, 7, 8, 9].map(|n: i32| Some(n.to_string())));
    let remaining = store.remaining(&targets([integer(1), integer(2)])).await.unwrap();
    assert_eq!(
        remaining.iter().map(|(_, course, count)| (*course, *count)).collect::<BTreeMap<_, _>>()[&integer(1)],
        3
    );
}

#[tokio::test]
async fn s5_an_id_counts_byte_for_byte_whatever_the_collation_says() {
    let bed = Bed::with(
        "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
         CREATE TABLE t (n int PRIMARY KEY, course_id text COLLATE nocase); \
         INSERT INTO t VALUES (1, '0b5a6f0e-4d7c-4a39-9a43-6d7a5f0c0015'), (2, '0B5A6F0E-4D7C-4A39-9A43-6D7A5F0C0015')",
    )
    .await;
    let course = IdType::Uuid.parse(b"0b5a6f0e-4d7c-4a39-9a43-6d7a5f0c0015").unwrap();
    let store = bed.store(IdType::Uuid, &[table("t")]);
    let held = inventory(&store, &[]).await.unwrap();
    assert_eq!((held.sources[0].dead[&course].amount.resources, held.sources[0].unrecognised.count), (1, 1));
    let handles = contract::located(&store, &targets([course])).await;
    let outcomes = store.delete(&Condemned::for_test(handles, FRESH)).await.outcomes;
    assert!(matches!(outcomes[..], [Outcome::Deleted { resources: 1, .. }]), "{outcomes:?}");
    assert_eq!(bed.texts("SELECT n::text FROM t").await, [Some("2".into())]);
}

#[tokio::test]
async fn what_the_filter_leaves_out_is_nobodys_concern() {
    let bed = Bed::with(TABLE).await;
    let source = TableSource { filter: Some("n <> 2 -- nor this".into()), ..table("t") };
    let store = bed.store(IdType::Integer, &[source]);
    let held = inventory(&store, &[]).await.unwrap();
    assert_eq!(held.sources[0].dead[&integer(1)].amount.resources, 1);
    let (handles, safe, items) = copy(&store, &[integer(1)]).await;
    assert_eq!(items.len(), 1);
    let outcomes = delete(&store, handles, safe).await;
    assert!(matches!(outcomes[..], [Outcome::Deleted { resources: 1, .. }]), "{outcomes:?}");
    assert_eq!(bed.texts("SELECT n::text FROM t ORDER BY n").await, [Some("2".into()), Some("3".into())]);
}

#[tokio::test]
async fn a_domain_and_a_small_integer_name_courses() {
    let bed = Bed::with(
        "CREATE DOMAIN course AS smallint; CREATE DOMAIN several AS course[]; \
         CREATE TABLE t (course_id course); CREATE TABLE u (course_id several); \
         INSERT INTO t VALUES (1), (-2); INSERT INTO u VALUES ('{1}')",
    )
    .await;
    let store = bed.store(IdType::Integer, &[table("t"), table("u")]);
    let held = inventory(&store, &[]).await.unwrap();
    assert_eq!(held.sources[0].dead.keys().copied().collect::<Vec<_>>(), [integer(-2), integer(1)]);
    assert_eq!(held.sources[1].dead.keys().copied().collect::<Vec<_>>(), [integer(1)]);
    let handles = contract::located(&store, &targets([integer(-2)])).await;
    let outcomes = store.delete(&Condemned::for_test(handles, FRESH)).await.outcomes;
    assert!(matches!(outcomes[..], [Outcome::Deleted { resources: 1, .. }]), "{outcomes:?}");
}

#[tokio::test]
async fn more_rows_than_a_page_are_copied_and_deleted_whole() {
    let bed = Bed::with(
        "CREATE TABLE t (course_id bigint, n int); INSERT INTO t SELECT 1, n % 7 FROM generate_series(1, 2300) n",
    )
    .await;
    let store = bed.store(IdType::Integer, &[table("t")]);
    let (handles, safe, items) = copy(&store, &[integer(1)]).await;
    assert_eq!(items.len(), 2300);
    let outcomes = delete(&store, handles, safe).await;
    assert!(matches!(outcomes[..], [Outcome::Deleted { resources: 2300, .. }]), "{outcomes:?}");
}

#[tokio::test]
async fn an_identity_tells_cluster_and_place() {
    let bed = Bed::with(TABLE).await;
    let identity = bed.store(IdType::Integer, &[table("t")]).identity().await.unwrap();
    assert!(identity.starts_with("postgres cluster ") && identity.ends_with(", table public.t"), "{identity}");
    let (_, url) = bed.role().await;
    let told = store(&url, IdType::Integer, &[table("t")]).identity().await.unwrap();
    assert!(told == identity || told.contains("does not tell"), "{told}");
}
