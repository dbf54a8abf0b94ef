//! Servers that are down, slow, locked, replaced in between, or none at all.

use std::sync::atomic::AtomicBool;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::super::link::Server as Info;
use super::*;

const COURSE: CourseId = CourseId::Integer(7);
const SOON: Duration = Duration::from_millis(300);

fn impatient(url: &str) -> RedisStore {
    let settings = settings(url, IdType::Integer, &["k:{course_id}:*"]);
    let server = ServerSettings { call_timeout: SOON, ..settings.server };
    RedisStore::new(RedisSettings { server, ..settings }).unwrap()
}

fn patient(url: &str) -> RedisStore {
    store(url, IdType::Integer, &["k:{course_id}:*"])
}

/// A server with `keys` keys of the course.
async fn filled(keys: usize) -> (Redis, MultiplexedConnection) {
    let server = Redis::start().await.unwrap();
    let mut connection = connect(&server.url()).await;
    fill(&mut connection, keys).await;
    (server, connection)
}

/// The URL with a user and a password.
fn with_password(server: &Redis, user: &str, password: &str) -> String {
    format!("redis://{user}:{password}@127.0.0.1:{}/0", server.port())
}

/// The error of every call that reads; all of them must fail.
async fn reading_fails(store: &RedisStore) -> Vec<StoreError> {
    let (sender, _receiver) = mpsc::channel(1);
    vec![
        store.identity().await.unwrap_err(),
        inventory(store, IdType::Integer, &[]).await.unwrap_err(),
        store.locate(&targets([COURSE]), sender).await.unwrap_err(),
        store.remaining(&targets([COURSE])).await.unwrap_err(),
    ]
}

fn failed(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed(cause) => cause,
        other => panic!("{other:?} is no failure"),
    }
}

#[test]
fn an_address_that_is_none_is_refused_without_showing_it() {
    for url in ["http://user:secret@host", "secret", "redis://:secret@host:port/x", ""] {
        let settings = settings(url, IdType::Uuid, &["{course_id}"]);
        assert!(!format!("{settings:?}").contains("secret"));
        let error = RedisStore::new(settings).err().unwrap_or_else(|| panic!("{url} is no address"));
        assert!(words(&error).contains("redis store `cache` has no usable address"), "{error}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_named_and_not_shown() {
    let (server, mut connection) = filled(1).await;
    cmd("CONFIG").arg("SET").arg("requirepass").arg("right").query_async::<()>(&mut connection).await.unwrap();
    for url in [with_password(&server, "", "secret"), with_password(&server, "nobody", "secret"), server.url()] {
        for error in reading_fails(&patient(&url)).await {
            let words = words(&error);
            assert!(words.contains("check the user and the password in its url"), "{words}");
            assert!(words.contains(&format!("`cache` at 127.0.0.1:{}/0", server.port())), "{words}");
        }
    }
    assert!(patient(&with_password(&server, "", "right")).identity().await.is_ok());
}

#[tokio::test]
async fn a_server_that_is_down_fails_every_call_and_is_found_again() {
    let (server, _) = filled(150).await;
    let store = patient(&server.url());
    let handles = located(&store, &targets([COURSE])).await;
    server.stop().await.unwrap();
    for error in reading_fails(&store).await {
        assert!(words(&error).contains("check its address, and that it runs"), "{error}");
    }
    let outcomes = store.delete(&Condemned::for_test(handles.clone(), FRESH)).await.outcomes;
    assert!(outcomes[..PIPELINE].iter().all(|outcome| failed(outcome).contains("could not delete keys")));
    assert_eq!(outcomes[PIPELINE..], vec![Outcome::Unattempted; 50]);

    server.restart().await.unwrap();
    let outcomes = store.delete(&Condemned::for_test(handles, FRESH)).await.outcomes;
    assert_eq!(outcomes, vec![Outcome::Deleted { resources: 1, bytes: None }; 150]);
}

#[tokio::test]
async fn a_server_that_hangs_is_left_after_the_timeout() {
    let (server, _) = filled(1).await;
    let (used, unused) = (impatient(&server.url()), impatient(&server.url()));
    let handles = located(&used, &targets([COURSE])).await;
    server.pause().unwrap();
    for store in [&used, &unused] {
        for error in reading_fails(store).await {
            assert!(matches!(error, StoreError::Timeout { .. }), "{error:?}");
            assert!(words(&error).ends_with("no answer within 0.3 s"), "{error}");
        }
        let outcomes = store.delete(&Condemned::for_test(handles.clone(), FRESH)).await.outcomes;
        assert!(failed(&outcomes[0]).contains("no answer within 0.3 s"), "{outcomes:?}");
    }
    server.resume().unwrap();
    assert_eq!(patient(&server.url()).remaining(&targets([COURSE])).await.unwrap(), vec![(SOURCE, COURSE, 1)]);
}

#[tokio::test]
async fn s2_a_delete_waits_no_longer_than_its_confirmation_is_good_for() {
    let (server, mut connection) = filled(250).await;
    let store = patient(&server.url());
    let handles = located(&store, &targets([COURSE])).await;
    cmd("CLIENT").arg("PAUSE").arg(600_000).arg("WRITE").query_async::<()>(&mut connection).await.unwrap();
    let outcomes = store.delete(&Condemned::for_test(handles.clone(), SOON)).await.outcomes;
    assert!(outcomes[..PIPELINE].iter().all(|outcome| failed(outcome).contains("no answer within 0.")), "{outcomes:?}");
    assert_eq!(outcomes[PIPELINE..], vec![Outcome::Unattempted; 150]);

    cmd("CLIENT").arg("UNPAUSE").query_async::<()>(&mut connection).await.unwrap();
    let outcomes = store.delete(&Condemned::for_test(handles, FRESH)).await.outcomes;
    for (n, outcome) in outcomes.iter().enumerate() {
        let gone = matches!(outcome, Outcome::Deleted { .. }) || (n < PIPELINE && *outcome == Outcome::Absent);
        assert!(gone, "what was not sent is deleted now: {n} {outcome:?}");
    }
    assert_eq!(store.remaining(&targets([COURSE])).await.unwrap(), vec![]);
}

#[tokio::test]
async fn a_key_that_may_not_be_deleted_fails_alone_and_ends_the_batch() {
    let (server, mut connection) = filled(250).await;
    let mut user = cmd("ACL");
    user.arg("SETUSER").arg("gc").arg("on").arg(">secret").arg("~k:7:1*");
    user.arg(&["+ping", "+info", "+select", "+scan", "+unlink"]);
    user.query_async::<()>(&mut connection).await.unwrap();
    let store = patient(&with_password(&server, "gc", "secret"));
    let mut handles = located(&store, &targets([COURSE])).await;
    handles.sort_by(|a, b| a.key.cmp(&b.key));
    let outcomes = store.delete(&Condemned::for_test(handles.clone(), FRESH)).await.outcomes;
    for (handle, outcome) in handles.iter().zip(&outcomes[..PIPELINE]) {
        if handle.key.starts_with(b"k:7:1") {
            assert_eq!(*outcome, Outcome::Deleted { resources: 1, bytes: None });
        } else {
            assert!(failed(outcome).contains("grant its user"), "{outcome:?}");
            assert!(!failed(outcome).contains("secret"), "{outcome:?}");
        }
    }
    assert!(outcomes[..PIPELINE].iter().any(|outcome| matches!(outcome, Outcome::Failed(_))));
    assert_eq!(outcomes[PIPELINE..], vec![Outcome::Unattempted; 150]);
}

#[tokio::test]
async fn a_replica_is_refused() {
    let (primary, _) = filled(1).await;
    let (replica, mut connection) = filled(1).await;
    let mut follow = cmd("REPLICAOF");
    follow.arg("127.0.0.1").arg(primary.port());
    follow.query_async::<()>(&mut connection).await.unwrap();
    for error in reading_fails(&patient(&replica.url())).await {
        assert!(words(&error).contains("its role is `slave`"), "{error}");
        assert!(words(&error).contains("use the primary's address"), "{error}");
    }
}

#[test]
fn s4_only_a_primary_that_holds_all_keys_is_accepted() {
    let server = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:abc\r\n";
    let read = |server: &str, replication: &str| Info::read(server, replication).unwrap();
    let primary = read(server, "role:master\r\n");
    assert_eq!((primary.version.as_str(), primary.run_id.as_str(), primary.in_cluster), ("7.0.15", "abc", false));
    assert_eq!(primary.primary(), Ok(()));
    assert!(read(server, "role:slave\r\n").primary().unwrap_err().contains("`slave`"));
    assert!(read(server, "").primary().unwrap_err().contains("`unknown`"));
    assert!(read(&server.replace("standalone", "cluster"), "role:master\r\n").in_cluster, "one of several");
    assert!(read(&server.replace("redis_mode:standalone", "server_mode:cluster"), "role:master\r\n").in_cluster);
    let silent = Info::read(&server.replace("redis_mode:standalone\r\n", ""), "role:master\r\n");
    assert!(silent.unwrap_err().contains("no mode"), "who does not say may hold a part of the keys");
    let sentinel = Info::read(&server.replace("standalone", "sentinel"), "role:master\r\n");
    assert!(sentinel.unwrap_err().contains("mode `sentinel`"));
    assert!(Info::read("", "role:master\r\n").unwrap_err().contains("no mode, version or run id"));
}

#[tokio::test]
async fn s4_a_server_that_restarts_in_the_middle_of_a_pass_fails_it() {
    // More than is on its way at any time.
    let (server, _) = filled(10_000).await;
    let store = patient(&server.url());
    let (sender, mut receiver) = mpsc::channel(1);
    let wanted = targets([COURSE]);
    let restart = async {
        receiver.recv().await.unwrap();
        server.restart().await.unwrap();
        let mut handles = 1;
        while receiver.recv().await.is_some() {
            handles += 1;
        }
        handles
    };
    let (located, handles) = tokio::join!(store.locate(&wanted, sender), restart);
    let error = located.unwrap_err();
    assert!(words(&error).contains("could not locate keys"), "{error}");
    assert!(handles < 10_000, "the pass did not go on");
    assert_eq!(store.remaining(&wanted).await.unwrap(), vec![(SOURCE, COURSE, 10_000)], "the next pass is whole");
}

/// A load balancer keeps the client's connection while the server behind it is replaced: the pass goes to its end, and
/// what was not on the new server yet would be missing.
#[tokio::test]
async fn s4_a_pass_that_two_servers_answered_is_not_complete() {
    let (first, _) = filled(2000).await;
    let (second, _) = filled(10).await;
    let switched = Arc::new(AtomicBool::new(false));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}/0", listener.local_addr().unwrap());
    let balancer = tokio::spawn(balance(listener, first.port(), second.port(), switched.clone()));
    let store = patient(&url);
    let (sender, mut receiver) = mpsc::channel(1);
    let wanted = targets([COURSE]);
    let switch = async {
        receiver.recv().await.unwrap();
        switched.store(true, Ordering::SeqCst);
        while receiver.recv().await.is_some() {}
    };
    let (located, ()) = tokio::join!(store.locate(&wanted, sender), switch);
    assert!(words(&located.unwrap_err()).contains("another server process answered"));
    balancer.abort();
}

/// Sends what comes over one connection to the first server, and once `switched` is set to the second.
async fn balance(listener: TcpListener, first: u16, second: u16, switched: Arc<AtomicBool>) {
    async fn pass_on(mut from: OwnedReadHalf, to: Arc<tokio::sync::Mutex<OwnedWriteHalf>>) {
        let mut bytes = vec![0; 65536];
        while let Ok(length @ 1..) = from.read(&mut bytes).await {
            if to.lock().await.write_all(&bytes[..length]).await.is_err() {
                break;
            }
        }
    }
    let (mut commands, answers) = listener.accept().await.unwrap().0.into_split();
    let answers = Arc::new(tokio::sync::Mutex::new(answers));
    let (answers_of_first, mut first) = TcpStream::connect(("127.0.0.1", first)).await.unwrap().into_split();
    let (answers_of_second, mut second) = TcpStream::connect(("127.0.0.1", second)).await.unwrap().into_split();
    tokio::spawn(pass_on(answers_of_first, answers.clone()));
    tokio::spawn(pass_on(answers_of_second, answers));
    let mut bytes = vec![0; 65536];
    while let Ok(length @ 1..) = commands.read(&mut bytes).await {
        let server = if switched.load(Ordering::SeqCst) { &mut second } else { &mut first };
        if server.write_all(&bytes[..length]).await.is_err() {
            break;
        }
    }
}

#[tokio::test]
async fn nonsense_is_an_error() {
    for nonsense in ["HTTP/1.1 400 Bad Request\r\n\r\n", "", "+OK\r\n+OK\r\n:7\r\n*-1\r\n$-1\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}/0", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let mut bytes = [0; 1024];
                while let Ok(1..) = connection.read(&mut bytes).await {
                    if nonsense.is_empty() || connection.write_all(nonsense.as_bytes()).await.is_err() {
                        break;
                    }
                }
            }
        });
        for error in reading_fails(&impatient(&url)).await {
            assert!(words(&error).contains("redis store `cache` at 127.0.0.1"), "{error}");
        }
        server.abort();
    }
}

#[tokio::test]
async fn tls_with_a_server_that_speaks_none_is_an_error() {
    let (server, _) = filled(1).await;
    for error in reading_fails(&impatient(&server.url().replace("redis://", "rediss://"))).await {
        assert!(words(&error).contains("redis store `cache` at 127.0.0.1"), "{error}");
    }
}

#[tokio::test]
async fn s8_whoever_may_not_ask_for_sizes_knows_none() {
    let (server, mut connection) = filled(250).await;
    let mut user = cmd("ACL");
    user.arg("SETUSER").arg("gc").arg("on").arg(">secret").arg("~*").arg(&["+ping", "+info", "+select", "+scan"]);
    user.query_async::<()>(&mut connection).await.unwrap();
    let held = inventory(&patient(&with_password(&server, "gc", "secret")), IdType::Integer, &[]).await.unwrap();
    assert_eq!(held.sources[0].dead[&COURSE].amount.resources, 250, "and all that is needed");
    assert_eq!(held.sources[0].sizes.estimate(250), None);
    cmd("ACL").arg(&["SETUSER", "gc", "+memory|usage"]).query_async::<()>(&mut connection).await.unwrap();
    let held = inventory(&patient(&with_password(&server, "gc", "secret")), IdType::Integer, &[]).await.unwrap();
    assert_eq!(held.sources[0].sizes.estimate(250).map(|estimate| estimate.sampled), Some(100));
}

#[tokio::test]
async fn s12_another_user_may_put_back_what_the_collectors_may_not() {
    let (server, mut connection) = filled(3).await;
    let allow = async |connection: &mut MultiplexedConnection, user: &str, commands: &[&str]| {
        let mut acl = cmd("ACL");
        acl.arg("SETUSER").arg(user).arg("on").arg(">secret").arg("~*").arg(commands);
        acl.query_async::<()>(connection).await.unwrap();
    };
    let reads = ["+ping", "+info", "+select", "+scan", "+evalsha", "+script", "+dump", "+pttl", "+unlink"];
    allow(&mut connection, "gc", &reads).await;
    allow(&mut connection, "restorer", &["+ping", "+info", "+select", "+exists", "+restore"]).await;
    let ours = with_password(&server, "gc", "secret");
    let restore_url = with_password(&server, "restorer", "secret").into();
    let templates = ["k:{course_id}:*"];
    let helped = RedisStore::new(RedisSettings {
        server: ServerSettings { restore_url: Some(restore_url), ..at(&ours) },
        ..settings(&ours, IdType::Integer, &templates)
    });
    let (alone, helped) = (patient(&ours), helped.unwrap());

    let handles = located(&alone, &targets([COURSE])).await;
    let mut items = contract::Items::default();
    let id = CopyId {
        run: Uuid::from_u128(7),
        batch: 1,
        taken_at: chrono::DateTime::UNIX_EPOCH,
        expires_at: chrono::DateTime::UNIX_EPOCH,
    };
    let copied = alone.copy(&id, &handles, &mut items).await.unwrap();
    let receipts = copied.into_iter().map(|copied| match copied {
        Copied::Whole(receipt) => receipt,
        other => panic!("{other:?}"),
    });
    let safe = crate::stores::copies::Safe { id, receipts: receipts.collect() };
    let outcomes = alone.delete(&Condemned::for_test_copied(handles, safe, FRESH)).await.outcomes;
    let lengths = items.0.iter().map(|item| item.content.len() as u64);
    let gone: Vec<Outcome> = lengths.map(|bytes| Outcome::Deleted { resources: 1, bytes: Some(bytes) }).collect();
    assert_eq!(outcomes, gone, "as long as what was copied");
    for outcome in alone.put_back(&items.0, Restoring::Missing).await {
        let PutBack::Failed(cause) = outcome else { panic!("{outcome:?}") };
        assert!(cause.contains("grant its user") && !cause.contains("secret"), "{cause}");
    }
    assert_eq!(helped.put_back(&items.0, Restoring::Missing).await, vec![PutBack::Restored; 3]);
    assert_eq!(helped.put_back(&items.0, Restoring::Look).await, vec![PutBack::Exists; 3]);
}
