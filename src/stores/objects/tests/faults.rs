//! Services that are down, slow, or refuse.

use sandbox::{Behaviour, Proxy};

use super::*;
use crate::errors::chain;

const SOON: Duration = Duration::from_millis(300);

/// A server with so many objects of the course, and a store of it with these changes.
async fn filled(objects: usize, change: impl Fn(&mut BucketSettings)) -> (Objects, Direct, ObjectsStore) {
    let server = Objects::start().await.unwrap();
    let direct = Direct::to(&settings(server.url(), Objects::BUCKET));
    let names: Vec<_> = (0..objects).map(|n| format!("org/7/{n:04}")).collect();
    stream::iter(&names).map(|name| direct.put(name, "x")).buffered(8).collect::<Vec<()>>().await;
    let mut settings = settings(server.url(), Objects::BUCKET);
    change(&mut settings);
    let store = store_with(&settings, IdType::Integer, LAYOUT);
    (server, direct, store)
}

/// The error of every call that reads; all of them must fail.
async fn reading_fails(store: &ObjectsStore) -> Vec<String> {
    let (sender, _receiver) = mpsc::channel(1);
    let handle = Handle { source: SOURCE, owner: COURSE, mentions: vec![], key: Bytes::from("org/7/0000") };
    [
        store.identity().await.unwrap_err(),
        store.marker().await.unwrap_err(),
        inventory(store).await.unwrap_err(),
        store.locate(&targets([COURSE]), sender).await.unwrap_err(),
        store.remaining(&targets([COURSE])).await.unwrap_err(),
        store.in_place().unwrap().copies().await.unwrap_err(),
        // A look at an object of a bucket that is not there answers as if the object had gone.
        match store.copy(&copy_id(1), &[handle], &mut Nowhere).await {
            Err(error) => error,
            Ok(copied) if copied == [Copied::Absent] => inventory(store).await.unwrap_err(),
            Ok(copied) => panic!("{copied:?}"),
        },
    ]
    .iter()
    .map(|error| chain(error))
    .collect()
}

fn failed(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed(cause) => cause,
        other => panic!("{other:?} is no failure"),
    }
}

#[tokio::test]
async fn a_wrong_key_is_named_and_not_shown() {
    for (id, key) in [("nobody-at-all", Objects::SECRET_KEY), (Objects::ACCESS_KEY, "a-wrong-secret")] {
        let (server, direct, store) = filled(1, |settings| {
            settings.access_key = Some(id.into());
            settings.secret_key = Some(key.into());
        })
        .await;
        let handles = vec![Handle { source: SOURCE, owner: COURSE, mentions: vec![], key: Bytes::from("org/7/0000") }];
        let outcomes = store.delete(&Condemned::for_test(handles, FRESH)).await.outcomes;
        let mut words = vec![failed(&outcomes[0]).to_owned()];
        words.extend(reading_fails(&store).await);
        for words in words {
            assert!(words.starts_with(&format!("bucket `campus` at {}: could not ", server.url())), "{words}");
            assert!(!words.contains(id) && !words.contains(key), "{words}");
        }
        let error = chain(&inventory(&store).await.unwrap_err());
        assert!(error.contains("check `access_key` and `secret_key`"), "{error}");
        assert_eq!(direct.contents().await.len(), 1);
    }
}

#[tokio::test]
async fn s4_a_bucket_that_is_not_there_is_no_empty_one() {
    let (_server, _direct, store) = filled(0, |settings| settings.bucket = "missing".to_owned()).await;
    for words in reading_fails(&store).await {
        assert!(words.contains("NoSuchBucket") && words.contains("check `bucket`"), "{words}");
    }
}

#[tokio::test]
async fn a_server_that_is_down_fails_every_call() {
    let (server, _direct, store) = filled(150, |_| {}).await;
    let handles = located(&store, &targets([COURSE])).await;
    server.stop().await.unwrap();
    for words in reading_fails(&store).await {
        assert!(words.contains("could not ") && words.contains("connect"), "{words}");
    }
    let outcomes = store.delete(&Condemned::for_test(handles, FRESH)).await.outcomes;
    assert!(outcomes[..100].iter().all(|outcome| failed(outcome).contains("could not look at")), "{outcomes:?}");
    assert_eq!(outcomes[100..], vec![Outcome::Unattempted; 50]);
}

#[tokio::test]
async fn a_server_that_hangs_is_left_after_the_timeout() {
    let (server, _direct, store) = filled(1, |_| {}).await;
    let handles = located(&store, &targets([COURSE])).await;
    let impatient = BucketSettings { call_timeout: SOON, ..settings(server.url(), Objects::BUCKET) };
    let store = store_with(&impatient, IdType::Integer, LAYOUT);
    server.pause().unwrap();
    for words in reading_fails(&store).await {
        assert!(words.ends_with("no answer within 0.3 s"), "{words}");
    }
    let outcomes = store.delete(&Condemned::for_test(handles, FRESH)).await.outcomes;
    assert!(failed(&outcomes[0]).ends_with("no answer within 0.3 s"), "{outcomes:?}");
    server.resume().unwrap();
    assert!(Direct::to(&settings(server.url(), Objects::BUCKET)).contents().await.contains_key(&b"org/7/0000"[..]));
}

#[tokio::test]
async fn s2_a_delete_waits_no_longer_than_its_confirmation_is_good_for() {
    let (server, direct, _) = filled(3, |_| {}).await;
    let proxy = Proxy::before(server.port()).unwrap();
    let url = format!("http://127.0.0.1:{}", proxy.port());
    let settings = BucketSettings { url, ..settings(server.url(), Objects::BUCKET) };
    let store = store_with(&settings, IdType::Integer, LAYOUT);
    let handles = located(&store, &targets([COURSE])).await;
    // The looks come through; the delete does not, nor any answer.
    proxy.switch_after(&[b"POST /campus?delete"], Behaviour::Silent);
    let outcomes = store.delete(&Condemned::for_test(handles.clone(), 10 * SOON)).await.outcomes;
    assert!(proxy.has_switched());
    assert!(outcomes.iter().all(|it| failed(it).contains("delete objects: no answer within ")), "{outcomes:?}");
    assert_eq!(direct.contents().await.len(), 3);

    proxy.switch(Behaviour::Pass);
    let outcomes = store.delete(&Condemned::for_test(handles, FRESH)).await.outcomes;
    assert_eq!(outcomes, vec![Outcome::Deleted { resources: 1, bytes: Some(1) }; 3]);
}

#[tokio::test]
async fn s2_a_delete_whose_answer_is_lost_is_not_sent_again() {
    let (server, direct, _) = filled(3, |_| {}).await;
    let proxy = Proxy::before(server.port()).unwrap();
    let url = format!("http://127.0.0.1:{}", proxy.port());
    let settings = BucketSettings { url, ..settings(server.url(), Objects::BUCKET) };
    let store = store_with(&settings, IdType::Integer, LAYOUT);
    let handles = located(&store, &targets([COURSE])).await;
    proxy.switch_after(&[b"POST /campus?delete"], Behaviour::Cut(0));
    let outcomes = store.delete(&Condemned::for_test(handles, FRESH)).await.outcomes;
    assert!(outcomes.iter().all(|outcome| failed(outcome).contains("could not delete objects")), "{outcomes:?}");
    assert_eq!(direct.contents().await.len(), 0, "it was done all the same");
    let log = std::fs::read_to_string(server.folder().join("log")).unwrap();
    assert_eq!(log.matches("POST /campus?delete").count(), 1, "{log}");
}

/// Set for the second process of the test below.
const AGAIN: &str = "COURSE_GC_TEST_TLS_URL";

/// The roots that a client trusts come from the process' environment, so the client is a process of its own.
#[tokio::test]
async fn a_service_with_a_trusted_certificate_is_used_over_tls_and_no_other() {
    if let Ok(url) = std::env::var(AGAIN) {
        let server = Objects::start().await.unwrap();
        let settings = BucketSettings { url, ..settings(server.url(), Objects::BUCKET) };
        let store = store_with(&settings, IdType::Integer, LAYOUT);
        store.identity().await.unwrap();
        return;
    }
    let server = Objects::start_with_tls().await.unwrap();
    let store = store_with(&settings(server.url(), Objects::BUCKET), IdType::Integer, LAYOUT);
    let error = chain(&store.identity().await.unwrap_err());
    assert!(error.contains("certificate"), "nobody vouches for it: {error}");
    let name = "stores::objects::tests::faults::a_service_with_a_trusted_certificate_is_used_over_tls_and_no_other";
    let mut again = tokio::process::Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", name]).env(AGAIN, server.url()).env("SSL_CERT_FILE", server.certificate());
    let output = again.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
}
