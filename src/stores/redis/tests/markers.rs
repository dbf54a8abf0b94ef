//! What stands in the marker's place, and what it survives.

use super::*;
use crate::domain::markers::{Owner, Truths};
use crate::stores::Marker;

fn owner(counter: u64) -> Owner {
    let truths = Truths::from([("77/campus".to_owned(), "77 1".to_owned())]);
    Owner { installation: Uuid::from_u128(1), name: "campus".into(), counter, truths }
}

fn marker(counter: u64) -> Marker {
    Marker::of(owner(counter))
}

fn key() -> &'static str {
    std::str::from_utf8(MARKER).unwrap()
}

#[tokio::test]
async fn s7_what_is_no_marker_is_an_error_and_stays() {
    let keyspace = Keyspace::create().await.unwrap();
    let mut connection = connect(keyspace.url()).await;
    let store = store(keyspace.url(), IdType::Uuid, &["lesson:{course_id}:*"]);
    for (command, why) in [("RPUSH", "holds no string"), ("SET", "holds no marker")] {
        cmd("DEL").arg(MARKER).query_async::<()>(&mut connection).await.unwrap();
        cmd(command).arg(MARKER).arg("{}").query_async::<()>(&mut connection).await.unwrap();
        let there: Vec<u8> = cmd("DUMP").arg(MARKER).query_async(&mut connection).await.unwrap();
        let errors = [
            store.marker().await.unwrap_err(),
            store.move_marker(None, &marker(1)).await.unwrap_err(),
            store.move_marker(Some(&marker(0)), &marker(1)).await.unwrap_err(),
        ];
        for error in errors {
            let words = words(&error);
            assert!(words.contains(key()) && words.contains(why) && words.contains("adopt"), "{words}");
        }
        let still: Vec<u8> = cmd("DUMP").arg(MARKER).query_async(&mut connection).await.unwrap();
        assert_eq!(still, there);
    }
}

#[tokio::test]
async fn s7_a_marker_is_compared_by_what_it_says_and_never_expires() {
    let keyspace = Keyspace::create().await.unwrap();
    let mut connection = connect(keyspace.url()).await;
    let store = store(keyspace.url(), IdType::Uuid, &["lesson:{course_id}:*"]);
    let spelled = format!(
        r#"{{ "owners": [ {{ "counter": 1, "truths": {{ "77/campus": "77 1" }}, "name": "campus", "installation": "{}" }} ] }}"#,
        owner(1).installation
    );
    cmd("SET").arg(MARKER).arg(spelled).arg("EX").arg(1000).query_async::<()>(&mut connection).await.unwrap();
    assert_eq!(store.marker().await.unwrap(), Some(marker(1)));
    assert!(store.move_marker(Some(&marker(1)), &marker(2)).await.unwrap());
    assert_eq!(store.marker().await.unwrap(), Some(marker(2)));
    let expires: i64 = cmd("TTL").arg(MARKER).query_async(&mut connection).await.unwrap();
    assert_eq!(expires, -1);
}

/// Whatever a template takes for a course's key, the marker is none.
#[tokio::test]
async fn s7_no_template_claims_a_marker() {
    let keyspace = Keyspace::create().await.unwrap();
    let store = store(keyspace.url(), IdType::Uuid, &["course-gc:{course_id}", "*:{course_id}"]);
    let before = inventory(&store, IdType::Uuid, &[]).await.unwrap();
    assert!(store.move_marker(None, &marker(1)).await.unwrap());
    assert_eq!(inventory(&store, IdType::Uuid, &[]).await.unwrap(), before);
    assert_eq!(before.sources[0].unrecognised.count, 0);
}
