use super::*;

const EVERYTHING: &str = r#"
CREATE SCHEMA app;
CREATE TYPE app.mood AS ENUM ('sad', 'so, so', 'quote"d');
CREATE DOMAIN app.percent AS numeric(5, 2) CHECK (VALUE BETWEEN 0 AND 100);
CREATE TYPE app.pair AS (a integer, "b c" text);
CREATE TABLE app."Every thing" (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, gone text, course_id uuid NOT NULL,
    t text, v varchar(20), c char(5), n numeric, n2 numeric(30, 10), f8 float8, f4 float4, b boolean, i2 smallint,
    ts timestamp, tz timestamptz, d date, tm time, tmz timetz, iv interval, by bytea, j json, jb jsonb, u uuid,
    ta text[], ia integer[][], m app.mood, ma app.mood[], p app.percent, pa app.pair, paa app.pair[],
    r int4range, nr numrange, tr tstzrange, mr int4multirange, ip inet, mac macaddr, bi bit(7), vb bit varying,
    pt point, mo money, x xml, ts_v tsvector, rc regclass, o oid, ch "char", nm name,
    g text GENERATED ALWAYS AS (upper(t)) STORED, big text
);
ALTER TABLE app."Every thing" DROP COLUMN gone;
"#;

const ROWS: &str = r#"
SET datestyle = 'German'; SET intervalstyle = 'iso_8601'; SET timezone = 'Asia/Kolkata';
INSERT INTO app."Every thing" (course_id, t, v, c, n, n2, f8, f4, b, i2, ts, tz, d, tm, tmz, iv, by, j, jb, u, ta, ia, m, ma, p, pa,
    paa, r, nr, tr, mr, ip, mac, bi, vb, pt, mo, x, ts_v, rc, o, ch, nm, big)
VALUES
('00000000-0000-0000-0000-000000000001', E'line\nbreak, "quote" \\ (x) '' é', 'v', 'c', 'NaN', 0.1, 'NaN', 'Infinity', true, -7,
 'infinity', '2026-03-29 01:30:00.123456+01', '0044-03-15 BC', '24:00', '12:00:00.5+05:30', '-1 year 2 mons -3 days 04:05:06.7',
 E'\\x00ff5c22', E'{"b":1,  "a" : [ ]\n}', '{"b": 1, "a": 1.10}', '0b5a6f0e-4d7c-4a39-9a43-6d7a5f0c1e2d',
 ARRAY['a,b', NULL, '', 'NULL', 'q"\'], '[0:1][2:2]={{1},{NULL}}', 'quote"d', ARRAY['sad', 'so, so']::app.mood[], 99.90,
 ROW(1, 'x, "y" \'), ARRAY[ROW(1, NULL)::app.pair, NULL], '[1,5)', '(,2.50]', '[2026-01-01 00:00+00,)', '{[1,2),[5,9)}',
 '10.0.0.1/8', '08:00:2b:01:02:03', B'1010101', B'', '(0.1,-0)', '1.5', '<a b="1"> x </a>', 'fat:2A cat', 'pg_class', 4294967295,
 'x', 'name', repeat('x', 100000) || md5('1')),
('00000000-0000-0000-0000-000000000001', '', '', '', -0.00, 12345678901234567890.0123456789, 0.1, 1e-45, false, 32767,
 '-infinity', '294276-12-31 23:59:59.999999+00', 'infinity', '00:00', '00:00-15:59', '0', '', 'null', 'null', NULL,
 '{}', '{}', 'sad', '{}', 0, ROW(NULL, ''), '{}', 'empty', 'empty', '(,)', '{}', '::1', NULL, NULL, NULL, NULL, -0.01, NULL, '',
 NULL, 0, '', '', ''),
('00000000-0000-0000-0000-000000000001', NULL, NULL, NULL, NULL, NULL, '-Infinity', 3.4028235e38, NULL, NULL, NULL, NULL, NULL, NULL,
 NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
 NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
"#;

fn everything() -> TableSource {
    TableSource { schema: "app".into(), table: "Every thing".into(), ..table("") }
}

fn first() -> CourseId {
    CourseId::Uuid(Uuid::from_u128(1))
}

/// Every value as Postgres sends it in binary, which no setting changes.
async fn binary(bed: &Bed) -> BTreeMap<String, Vec<String>> {
    let columns = "SELECT string_agg(format('encode(%s(t.%I), ''hex'')', y.typsend, a.attname), ' || ''/'' || ' ORDER BY attnum) \
                   FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid \
                   WHERE attrelid = 'app.\"Every thing\"'::regclass AND attnum > 0 AND NOT attisdropped";
    let columns = bed.texts(columns).await.remove(0).unwrap();
    let columns: Vec<String> = columns.split(" || '/' || ").map(|one| format!("coalesce({one}, 'NULL')")).collect();
    let query = format!("SELECT t.id || '|' || {} FROM app.\"Every thing\" AS t", columns.join(" || '/' || "));
    let rows = bed.texts(&query).await;
    rows.into_iter()
        .map(|row| {
            let row = row.unwrap();
            let (id, values) = row.split_once('|').unwrap();
            (id.to_owned(), values.split('/').map(str::to_owned).collect())
        })
        .collect()
}

#[tokio::test]
async fn s12_values_of_every_type_come_back_byte_for_byte() {
    let bed = Bed::with(EVERYTHING).await;
    bed.run(ROWS).await;
    let before = binary(&bed).await;
    assert_eq!(before.len(), 3);
    let store = bed.store(IdType::Uuid, &[everything()]);
    let (handles, safe, items) = copy(&store, &[first()]).await;
    assert_eq!(items.iter().map(|item| &item.name[..]).collect::<Vec<_>>(), [b"(1)", b"(2)", b"(3)"]);
    let outcomes = delete(&store, handles, safe).await;
    assert!(matches!(outcomes[..], [Outcome::Deleted { resources: 3, bytes: Some(1000..) }]), "{outcomes:?}");
    assert_eq!(bed.count("app.\"Every thing\"").await, 0);
    assert_eq!(store.put_back(&items, Restoring::Missing).await, vec![PutBack::Restored; 3]);
    assert_eq!(binary(&bed).await, before);
}

#[tokio::test]
async fn s12_rows_come_back_into_a_table_that_was_altered() {
    let bed = Bed::with(
        "CREATE TABLE t (a text, course_id bigint, b text); INSERT INTO t VALUES ('x', 1, NULL), ('', 1, 'y\"')",
    )
    .await;
    let store = bed.store(IdType::Integer, &[table("t")]);
    let (handles, safe, items) = copy(&store, &[integer(1)]).await;
    delete(&store, handles, safe).await;
    bed.run("ALTER TABLE t DROP COLUMN a; ALTER TABLE t ADD COLUMN c integer DEFAULT 7").await;
    let lost = store.put_back(&items, Restoring::Missing).await;
    let [PutBack::Failed(why), PutBack::Failed(_)] = &lost[..] else { panic!("{lost:?}") };
    assert!(why.contains("no column `a` any more"), "{why}");
    bed.run("ALTER TABLE t ADD COLUMN a text").await;
    assert_eq!(store.put_back(&items, Restoring::Missing).await, vec![PutBack::Restored; 2]);
    let rows = bed.texts("SELECT t::text FROM t ORDER BY a").await;
    assert_eq!(rows, [Some("(1,\"y\"\"\",7,\"\")".into()), Some("(1,,7,x)".into())]);
}

/// Without a key only their number tells rows that are the same from one another.
#[tokio::test]
async fn s12_as_many_rows_without_a_key_come_back_as_went() {
    let bed = Bed::with(
        "CREATE TABLE t (course_id bigint, b text); INSERT INTO t VALUES (1, 'x'), (1, 'x'), (1, 'x'), (1, 'y')",
    )
    .await;
    let store = bed.store(IdType::Integer, &[table("t")]);
    let (handles, safe, items) = copy(&store, &[integer(1)]).await;
    assert_eq!(delete(&store, handles, safe).await.len(), 1);
    bed.run("INSERT INTO t VALUES (1, 'x')").await;
    let back = store.put_back(&items, Restoring::Look).await;
    assert_eq!(back.iter().filter(|back| **back == PutBack::Exists).count(), 1);
    assert_eq!(bed.count("t").await, 1, "looking puts nothing back");
    assert_eq!(store.put_back(&items, Restoring::Missing).await, back);
    for restoring in [Restoring::Missing, Restoring::Overwrite] {
        store.put_back(&items, restoring).await;
        assert_eq!(bed.texts("SELECT b FROM t ORDER BY b").await, ["x", "x", "x", "y"].map(|b| Some(b.to_owned())));
    }
}

#[tokio::test]
async fn s1_a_row_of_another_course_is_not_replaced() {
    let bed = Bed::with(
        "CREATE TABLE t (course_id bigint, hash text UNIQUE, n int PRIMARY KEY); INSERT INTO t VALUES (1, 'h', 1)",
    )
    .await;
    let store = bed.store(IdType::Integer, &[table("t")]);
    let (handles, safe, items) = copy(&store, &[integer(1)]).await;
    delete(&store, handles, safe).await;
    bed.run("INSERT INTO t VALUES (2, 'h', 2)").await;
    assert_eq!(store.put_back(&items, Restoring::Missing).await, [PutBack::Exists]);
    let kept = store.put_back(&items, Restoring::Overwrite).await;
    assert!(matches!(&kept[..], [PutBack::Failed(why)] if why.contains("does not name course 1")), "{kept:?}");
    assert_eq!(bed.texts("SELECT t::text FROM t").await, [Some("(2,h,2)".into())]);
    bed.run("UPDATE t SET course_id = 1").await;
    assert_eq!(store.put_back(&items, Restoring::Overwrite).await, [PutBack::Restored]);
    assert_eq!(bed.texts("SELECT t::text FROM t").await, [Some("(1,h,1)".into())]);
}

#[tokio::test]
async fn s12_a_trigger_that_changes_what_comes_back_is_told() {
    let bed =
        Bed::with("CREATE TABLE t (n int PRIMARY KEY, course_id bigint, at text); INSERT INTO t VALUES (1, 1, 'then')")
            .await;
    let store = bed.store(IdType::Integer, &[table("t")]);
    let (handles, safe, items) = copy(&store, &[integer(1)]).await;
    delete(&store, handles, safe).await;
    bed.run(
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.at := 'now'; RETURN NEW; END $$; \
         CREATE TRIGGER touch BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION touch()",
    )
    .await;
    let back = store.put_back(&items, Restoring::Missing).await;
    assert!(matches!(&back[..], [PutBack::Failed(why)] if why.contains("would not come back as it was")), "{back:?}");
    assert_eq!(bed.count("t").await, 0, "nothing half right");
}
