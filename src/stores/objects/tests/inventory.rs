//! What is whose, and where it is said to be.

use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::HttpRequest;

use super::*;

#[test]
fn s5_only_what_lies_beneath_a_canonical_id_is_a_course_s() {
    let id = "0b5a6f0e-4d7c-4a39-9a43-6d7a5f0c1e2d";
    let course = IdType::Uuid.parse(id.as_bytes()).unwrap();
    let bucket = Bucket::new(&BucketSettings {
        url: "http://127.0.0.1:1".to_owned(),
        bucket: "campus".to_owned(),
        region: String::new(),
        access_key: None,
        secret_key: None,
        call_timeout: Duration::from_secs(1),
    });
    let place = |layout| {
        let bucket = bucket.as_ref().unwrap().clone();
        Place { bucket, layout: Layout::parse(layout).unwrap(), id_type: IdType::Uuid }
    };
    for (layout, name, expected) in [
        ("{course_id}", format!("{id}/a"), Claim::Owned(course)),
        ("{course_id}", format!("{id}/a/b"), Claim::Owned(course)),
        ("{course_id}", id.to_owned(), Claim::Unclaimed),
        ("{course_id}", format!("{}/a", id.to_uppercase()), Claim::Unrecognised),
        ("{course_id}", "logo.png".to_owned(), Claim::Unclaimed),
        ("{course_id}", format!(".course-gc/{id}/a"), Claim::Own),
        ("*/{course_id}", format!(".course-gc/{id}/a"), Claim::Own),
        ("*/{course_id}", format!("org/{id}/a"), Claim::Owned(course)),
        ("*/{course_id}", format!("org/{id}.bak/a"), Claim::Unrecognised),
        ("*/{course_id}", format!("{id}/a"), Claim::Unclaimed),
        ("*/{course_id}", format!("../{id}/a"), Claim::Unclaimed),
        ("x/{course_id}", format!("x/{id}/a"), Claim::Owned(course)),
        ("x/{course_id}", format!("y/{id}/a"), Claim::Unclaimed),
    ] {
        assert_eq!(place(layout).claim(&name), expected, "{layout} {name}");
    }
}

#[tokio::test]
async fn s4_an_inventory_reads_every_page() {
    let (_server, direct, store) = bed().await;
    let names: Vec<_> = (0..1_100).map(|n| format!("org/7/{n}")).collect();
    stream::iter(&names).map(|name| direct.put(name, "x")).buffered(8).collect::<Vec<()>>().await;
    let found = inventory(&store).await.unwrap();
    let of_course = &found.sources[0].dead[&COURSE];
    assert_eq!((of_course.amount.resources, of_course.amount.bytes), (1_100, Some(1_100)));
    assert_eq!(store.remaining(&targets([COURSE])).await.unwrap(), vec![(SOURCE, COURSE, 1_100)]);

    let handles = located(&store, &targets([COURSE])).await;
    assert_eq!(handles.len(), 1_100);
    let some = handles[..150].to_vec();
    let outcomes = store.delete(&Condemned::for_test(some, FRESH)).await.outcomes;
    assert_eq!(outcomes, vec![Outcome::Deleted { resources: 1, bytes: Some(1) }; 150], "in two requests");
    assert_eq!(direct.names().await.len(), 950);
}

/// Writes an object under a name that the client itself would not send.
async fn put_as_it_is(server: &Objects, name: &str) {
    let credential = AwsCredential {
        key_id: Objects::ACCESS_KEY.to_owned(),
        secret_key: Objects::SECRET_KEY.to_owned(),
        token: None,
    };
    let put = format!("{}/{}/{name}", server.url(), Objects::BUCKET);
    let mut signed = HttpRequest::new("x".to_owned().into());
    *signed.method_mut() = reqwest::Method::PUT;
    *signed.uri_mut() = put.parse().unwrap();
    AwsAuthorizer::new(&credential, "s3", Objects::REGION).try_authorize(&mut signed, None).unwrap();
    let request = reqwest::Client::new().put(put).headers(signed.headers().clone()).body("x");
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}

#[tokio::test]
async fn s4_a_name_that_cannot_be_asked_for_fails_the_pass() {
    let (server, direct, store) = bed().await;
    direct.put("org/7/a", "x").await;
    put_as_it_is(&server, "org/7//b").await;
    let error = crate::errors::chain(&inventory(&store).await.unwrap_err());
    assert!(error.contains("could not take inventory") && error.contains("org/7//b"), "{error}");
}

#[tokio::test]
async fn what_ends_with_a_slash_is_counted_and_stays() {
    let (server, direct, store) = bed().await;
    put_as_it_is(&server, "org/7/folder/").await;
    direct.put("org/7/a", "x").await;
    assert_eq!(inventory(&store).await.unwrap().sources[0].dead[&COURSE].amount.resources, 2);
    let mut handles = located(&store, &targets([COURSE])).await;
    handles.sort_by(|a, b| a.key.cmp(&b.key));
    assert!(matches!(copy(&store, 1, &handles).await[..], [Copied::Whole(_), Copied::Absent]));
    let outcomes = store.delete(&Condemned::for_test(handles, FRESH)).await.outcomes;
    assert_eq!(outcomes, [Outcome::Deleted { resources: 1, bytes: Some(1) }, Outcome::Absent]);
    assert_eq!(store.remaining(&targets([COURSE])).await.unwrap(), vec![(SOURCE, COURSE, 1)], "it is not hidden");
}

#[tokio::test]
async fn the_identity_says_whether_versions_are_kept() {
    let (server, direct, store) = bed().await;
    let plain = format!("objects bucket `campus` at {}", server.url());
    assert_eq!(store.identity().await.unwrap(), plain, "an empty bucket says nothing about it");
    direct.put("org/7/a", "x").await;
    assert_eq!(store.identity().await.unwrap(), plain);
    let versioned = store_with(&settings(server.url(), Objects::VERSIONED_BUCKET), IdType::Integer, LAYOUT);
    Direct::to(&settings(server.url(), Objects::VERSIONED_BUCKET)).put("org/7/a", "x").await;
    let identity = versioned.identity().await.unwrap();
    assert!(identity.ends_with("keeps versions: what is deleted stays as one"), "{identity}");
}

#[tokio::test]
async fn s7_what_is_no_marker_is_an_error_and_stays() {
    let (_server, direct, store) = bed().await;
    direct.put(marker::NAME, "not a marker").await;
    let error = store.marker().await.unwrap_err().to_string();
    assert!(error.contains("`.course-gc/marker.json` holds no marker"), "{error}");
    assert_eq!(direct.names().await, vec![marker::NAME]);
}
