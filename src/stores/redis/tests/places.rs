//! Servers that speak TLS, and databases beside each other in one server.

use std::path::PathBuf;

use super::*;
use crate::domain::markers::{Owner, Truths};

const COURSE: CourseId = CourseId::Integer(7);
const TEMPLATES: [&str; 1] = ["k:{course_id}:*"];

fn trusting(url: &str, ca: Option<PathBuf>) -> Result<RedisStore, StoreError> {
    let server = ServerSettings { ca, ..at(url) };
    RedisStore::new(RedisSettings { server, ..settings(url, IdType::Integer, &TEMPLATES) })
}

/// A client that trusts who vouches for this server.
async fn over_tls(server: &Redis) -> MultiplexedConnection {
    let root_cert = Some(std::fs::read(server.authority()).unwrap());
    let certificates = ::redis::TlsCertificates { client_tls: None, root_cert };
    let client = Client::build_with_tls(server.url(), certificates).unwrap();
    let config = ::redis::AsyncConnectionConfig::new().set_response_timeout(Some(CALL));
    client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

#[tokio::test]
async fn a_server_with_tls_is_used_if_its_authority_is_known_and_else_refused_in_words() {
    let server = Redis::start_with_tls().await.unwrap();
    fill(&mut over_tls(&server).await, 3).await;

    let known = trusting(&server.url(), Some(server.authority())).unwrap();
    let handles = located(&known, &targets([COURSE])).await;
    let outcomes = known.delete(&Condemned::for_test(handles, FRESH)).await.outcomes;
    assert_eq!(outcomes, vec![Outcome::Deleted { resources: 1, bytes: None }; 3]);

    // It is made for 127.0.0.1, so whoever calls it by another name is not sure whom it calls.
    let by_name = server.url().replace("127.0.0.1", "localhost");
    for (url, ca) in
        [(server.url(), None), (server.url(), Some(server.other_authority())), (by_name, Some(server.authority()))]
    {
        let words = words(&trusting(&url, ca).unwrap().identity().await.unwrap_err());
        assert!(words.contains("give the certificate of who signed it as ca"), "{words}");
        assert!(words.contains("invalid peer certificate"), "the cause is said: {words}");
    }
    let words = words(&trusting(&server.url().replace("rediss", "redis"), None).unwrap().identity().await.unwrap_err());
    assert!(words.contains("with TLS if its url says so"), "{words}");
}

#[test]
fn certificates_that_are_none_are_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("nowhere.pem");
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "no certificate").unwrap();
    let broken = folder.path().join("broken.pem");
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").unwrap();
    for ca in [nowhere, empty, broken] {
        let error = trusting("rediss://127.0.0.1:1/0", Some(ca.clone())).err().unwrap();
        let words = words(&error);
        let expected = format!("redis store `cache` has no certificates in {}; name a file", ca.display());
        assert!(words.contains(&expected), "{words}");
    }
}

/// A database of a number is a place of its own: what lies in another one is neither seen nor deleted, and its marker is another.
#[tokio::test]
async fn s7_a_numbered_database_is_a_store_of_its_own() {
    let server = Redis::start().await.unwrap();
    let url = |number: u8| format!("redis://127.0.0.1:{}/{number}", server.port());
    let [mut third, mut none] = [connect(&url(3)).await, connect(&server.url()).await];
    fill(&mut third, 150).await;
    fill(&mut none, 40).await;
    let [in_third, in_none] = [trusting(&url(3), None).unwrap(), trusting(&server.url(), None).unwrap()];
    assert!(in_third.identity().await.unwrap().ends_with(&format!("127.0.0.1:{}/3", server.port())));

    let owner = Owner { installation: Uuid::from_u128(1), name: "campus".into(), counter: 1, truths: Truths::new() };
    assert!(in_third.move_marker(None, &Marker::of(owner)).await.unwrap());
    assert_eq!(in_none.marker().await.unwrap(), None);
    let exists: [i64; 2] = [
        cmd("EXISTS").arg(MARKER).query_async(&mut third).await.unwrap(),
        cmd("EXISTS").arg(MARKER).query_async(&mut none).await.unwrap(),
    ];
    assert_eq!(exists, [1, 0], "the marker lies in the database");

    let seen = inventory(&in_third, IdType::Integer, &[]).await.unwrap();
    assert_eq!(seen.sources[0].dead[&COURSE].amount.resources, 150);
    let handles = located(&in_third, &targets([COURSE])).await;
    let outcomes = in_third.delete(&Condemned::for_test(handles, FRESH)).await.outcomes;
    assert_eq!(outcomes, vec![Outcome::Deleted { resources: 1, bytes: None }; 150]);
    assert_eq!(in_third.remaining(&targets([COURSE])).await.unwrap(), vec![]);
    assert_eq!(in_none.remaining(&targets([COURSE])).await.unwrap(), vec![(SOURCE, COURSE, 40)], "in the other one");
}
