use super::*;
use crate::domain::markers::{Owner, Truths};

fn marker(counter: u64) -> Marker {
    let truths = Truths::from([("77/campus".to_owned(), "77 1".to_owned())]);
    Marker::of(Owner { installation: Uuid::from_u128(1), name: "campus".into(), counter, truths })
}

const TABLE: &str = "CREATE TABLE t (course_id bigint)";

#[tokio::test]
async fn s7_a_role_that_may_not_make_its_place_is_told_what_to_run() {
    let bed = Bed::with(TABLE).await;
    let (role, url) = bed.role().await;
    bed.run(&format!("GRANT SELECT, INSERT, DELETE ON t TO {role}")).await;
    let store = store(&url, IdType::Integer, &[table("t")]);
    assert_eq!(store.marker().await.unwrap(), None);
    let words = words(&store.move_marker(None, &marker(1)).await.unwrap_err());
    assert!(words.contains(marker::SQL) && words.contains("permission denied"), "{words}");

    let grant = "GRANT USAGE ON SCHEMA course_gc TO";
    let rows = "GRANT SELECT, INSERT, UPDATE ON course_gc.store_markers TO";
    bed.run(&format!("{}; {grant} {role}; {rows} {role}", marker::SQL)).await;
    assert!(store.move_marker(None, &marker(1)).await.unwrap());
    assert!(store.move_marker(Some(&marker(1)), &marker(2)).await.unwrap());
    assert_eq!(store.marker().await.unwrap(), Some(marker(2)));

    bed.run(&format!("REVOKE USAGE ON SCHEMA course_gc FROM {role}")).await;
    assert!(store.marker().await.is_err(), "S4: what may not be read is not absent");
}

#[tokio::test]
async fn s7_a_table_that_was_made_anew_is_nobodys() {
    let bed = Bed::with(TABLE).await;
    let store = bed.store(IdType::Integer, &[table("t")]);
    assert!(store.move_marker(None, &marker(1)).await.unwrap());
    bed.run("DROP TABLE t; CREATE TABLE t (course_id bigint)").await;
    assert_eq!(store.marker().await.unwrap(), None);
    assert!(!store.move_marker(Some(&marker(1)), &marker(2)).await.unwrap());
    assert!(store.move_marker(None, &marker(2)).await.unwrap());
    assert_eq!(store.marker().await.unwrap(), Some(marker(2)));
}

#[tokio::test]
async fn s7_a_table_that_comes_to_a_store_is_adopted_with_it() {
    let bed = Bed::with(TABLE).await;
    bed.run("CREATE TABLE u (course_id bigint)").await;
    let (alone, both) =
        (bed.store(IdType::Integer, &[table("t")]), bed.store(IdType::Integer, &[table("t"), table("u")]));
    assert!(alone.move_marker(None, &marker(1)).await.unwrap());
    assert_eq!(both.marker().await.unwrap(), None);
    let words = words(&both.move_marker(None, &marker(2)).await.unwrap_err());
    assert!(words.contains("`public.u` none"), "{words}");
    assert!(both.move_marker(None, &marker(1)).await.unwrap());
    assert_eq!(both.marker().await.unwrap(), Some(marker(1)));
    assert!(alone.move_marker(Some(&marker(1)), &marker(2)).await.unwrap());
    assert!(both.marker().await.is_err(), "one moved without the other");
}

#[tokio::test]
async fn s7_what_is_no_marker_is_an_error() {
    let bed = Bed::with(TABLE).await;
    let store = bed.store(IdType::Integer, &[table("t")]);
    assert!(store.move_marker(None, &marker(1)).await.unwrap());
    bed.run("UPDATE course_gc.store_markers SET marker = '{}'").await;
    for error in [store.marker().await.unwrap_err(), store.move_marker(None, &marker(1)).await.unwrap_err()] {
        assert!(words(&error).contains("holds no marker"), "{error}");
    }
}
