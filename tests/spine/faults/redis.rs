//! Redis: the keys.

use ::redis::aio::MultiplexedConnection;
use anyhow::{Context, Result};
use sandbox::{Redis, Snapshot};

use super::fault::Struck;
use super::matrix::{Most, Stage, When, play};
use super::{documented, holds_itself_only};
use crate::interposed::{Call, interpose};
use crate::outages::{Scene, activate};
use crate::support::eventually;

/// What is asked of Redis in a run, in order. A batch is sent at once; the first is one key, the second ten.
const STAGES: [Stage; 8] = [
    Stage { name: "before the run", when: When::First, most: Most::Nothing },
    Stage { name: "places: the marker is read", when: When::Sent(&[b"course-gc:marker"]), most: Most::Nothing },
    Stage { name: "places: the marker is moved", when: When::Sent(&[b"EVAL"]), most: Most::Nothing },
    Stage { name: "inventory", when: When::Sent(&[b"SCAN"]), most: Most::Nothing },
    Stage { name: "the inventory's end", when: When::Sent(&[b"SCAN", b"INFO"]), most: Most::Nothing },
    Stage { name: "locate", when: When::Sent(&[b"SCAN", b"PING", b"SCAN"]), most: Most::Nothing },
    Stage { name: "delete", when: When::Sent(&[b"UNLINK"]), most: Most::Handles(1) },
    Stage { name: "the next batch", when: When::Sent(&[b"UNLINK", b"UNLINK"]), most: Most::Handles(11) },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s4_s11_redis_fails_at_every_stage() -> Result<()> {
    play(Struck::Redis, &STAGES, 6).await
}

/// A campus on a Redis of its own, and a connection to it past the collector.
async fn own() -> Result<(Redis, Scene, MultiplexedConnection)> {
    let server = Redis::start().await?;
    let scene = Scene::with(|addresses| addresses.redis = server.url()).await?;
    let connection = scene.installation.stores.redis.clone();
    Ok((server, scene, connection))
}

async fn tell(connection: &mut MultiplexedConnection, command: &str) -> Result<()> {
    let mut words = command.split(' ');
    let mut told = ::redis::cmd(words.next().context("a command")?);
    words.for_each(|word| _ = told.arg(word));
    Ok(told.query_async(connection).await?)
}

/// The same server, as another user.
fn as_user(scene: &mut Scene, server: &Redis, user: &str) {
    scene.installation.addresses.redis = format!("redis://{user}@127.0.0.1:{}/0", server.port());
}

#[tokio::test]
async fn s4_a_wrong_password_holds_the_keys() -> Result<()> {
    let (server, mut scene, mut redis) = own().await?;
    as_user(&mut scene, &server, ":right");
    tell(&mut redis, "CONFIG SET requirepass right").await?;
    as_user(&mut scene, &server, ":hunter2");
    let report = activate(&scene, |_| ()).await?;
    assert!(!format!("{report:?}").contains("hunter2"));
    let happened = holds_itself_only(&scene, "cache", &report, "check the user and the password in its url").await?;
    as_user(&mut scene, &server, ":right");
    scene.recovers().await?;
    documented("a wrong password", &happened, "s4_a_wrong_password_holds_the_keys")
}

#[tokio::test]
async fn s4_a_user_without_rights_holds_the_keys() -> Result<()> {
    let (server, mut scene, mut redis) = own().await?;
    tell(&mut redis, "ACL SETUSER reader on >secret ~* resetchannels +ping +info +select +scan +get +client").await?;
    as_user(&mut scene, &server, "reader:secret");
    let report = activate(&scene, |_| ()).await?;
    let happened =
        holds_itself_only(&scene, "cache", &report, "grant its user PING, INFO, SELECT, SCAN, UNLINK").await?;
    documented("a user who may only read", &happened, "s4_a_user_without_rights_holds_the_keys")?;

    // The right to move the marker alone lets nothing go either.
    tell(&mut redis, "ACL SETUSER reader +eval +set").await?;
    let report = activate(&scene, |_| ()).await?;
    let happened = holds_itself_only(&scene, "cache", &report, "could not copy keys; grant its user").await?;
    documented("a user who may not DUMP", &happened, "s4_a_user_without_rights_holds_the_keys")?;
    tell(&mut redis, "ACL SETUSER reader +evalsha +script +dump +pttl").await?;
    let report = activate(&scene, |_| ()).await?;
    let happened = holds_itself_only(&scene, "cache", &report, "can't run this command").await?;
    documented("a user who may not UNLINK", &happened, "s4_a_user_without_rights_holds_the_keys")?;
    tell(&mut redis, "ACL SETUSER reader +unlink").await?;
    scene.recovers().await
}

#[tokio::test]
async fn s4_a_replica_holds_the_keys() -> Result<()> {
    let (_server, scene, mut redis) = own().await?;
    // Of a primary that is not there: it keeps what it has.
    tell(&mut redis, "REPLICAOF 127.0.0.1 1").await?;
    let report = activate(&scene, |_| ()).await?;
    let happened = holds_itself_only(&scene, "cache", &report, "its role is `slave`").await?;
    tell(&mut redis, "REPLICAOF NO ONE").await?;
    scene.recovers().await?;
    documented("a read-only replica", &happened, "s4_a_replica_holds_the_keys")
}

#[tokio::test]
async fn s11_a_primary_that_becomes_a_replica_in_mid_sweep_loses_no_more() -> Result<()> {
    let (_server, scene, redis) = own().await?;
    let report = activate(&scene, |collector| {
        interpose(collector, "cache", move |call, nth| {
            let mut redis = redis.clone();
            Box::pin(async move {
                if (call, nth) == (Call::Delete, 1) {
                    tell(&mut redis, "REPLICAOF 127.0.0.1 1").await.expect("it obeys");
                }
            })
        });
    })
    .await?;
    let happened = holds_itself_only(&scene, "cache", &report, "its role is `slave`").await?;
    let mut redis = scene.installation.stores.redis.clone();
    tell(&mut redis, "REPLICAOF NO ONE").await?;
    scene.recovers().await?;
    documented(
        "demoted when its first key is about to go",
        &happened,
        "s11_a_primary_that_becomes_a_replica_in_mid_sweep_loses_no_more",
    )
}

#[tokio::test]
async fn s7_a_full_server_cannot_take_the_marker_and_is_held() -> Result<()> {
    let (_server, scene, mut redis) = own().await?;
    tell(&mut redis, "CONFIG SET maxmemory 1").await?;
    let report = activate(&scene, |_| ()).await?;
    let happened = holds_itself_only(&scene, "cache", &report, "its marker could not be moved on").await?;
    tell(&mut redis, "CONFIG SET maxmemory 0").await?;
    scene.recovers().await?;
    documented("full (`maxmemory`, `noeviction`)", &happened, "s7_a_full_server_cannot_take_the_marker_and_is_held")
}

#[tokio::test]
async fn s7_a_server_that_evicts_loses_the_marker_and_is_held() -> Result<()> {
    let (_server, mut scene, mut redis) = own().await?;
    tell(&mut redis, "CONFIG SET maxmemory-policy allkeys-random").await?;
    tell(&mut redis, "CONFIG SET maxmemory 1").await?;
    eventually("the marker is evicted", async || {
        // Every command that takes memory makes room first.
        let _ = ::redis::cmd("SET").arg("filler").arg(1).query_async::<()>(&mut redis.clone()).await;
        let there: bool = ::redis::cmd("EXISTS").arg("course-gc:marker").query_async(&mut redis.clone()).await?;
        Ok((!there).then_some(()))
    })
    .await?;
    tell(&mut redis, "CONFIG SET maxmemory 0").await?;
    ::redis::cmd("DEL").arg("filler").query_async::<()>(&mut redis).await?;
    // What the server evicted itself is nobody's doing here.
    let left = Snapshot::take(&scene.installation.stores).await?;
    scene.before = left;
    let before = &scene.before;
    scene.doomed.retain(|resource| before.contains(resource));
    let report = activate(&scene, |_| ()).await?;
    let happened = holds_itself_only(&scene, "cache", &report, "its marker is gone").await?;
    documented("evicting (`allkeys-random`)", &happened, "s7_a_server_that_evicts_loses_the_marker_and_is_held")
}
