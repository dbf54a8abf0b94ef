//! What the tests and the demo of `course-gc` run against.
//!
//! **Servers.** [`Postgres`], [`Redis`] and [`Qdrant`] are real servers, each in a temporary folder and on a free port, and so are
//! [`PgBouncer`], a pooler before a Postgres, and [`Objects`], an S3 service in memory. A [`RedisCluster`] has three masters, and
//! [`RedisSentinels`] watch over a Redis and its replica.
//! A server ends with its handle and with the process that started it, even when that is killed. Tests that stop or
//! break a server start their own. A [`Proxy`] before a server makes it slow, silent, absent or mad at a chosen moment.
//!
//! **Places.** [`Database`], [`Keyspace`] and [`Collections`] are empty places on such servers, or on the servers that
//! `DATABASE_URL`, `REDIS_URL` and `QDRANT_URL` name, where they clean up after themselves. A [`World`] is one of each
//! and a folder for files, and a bucket where it is to be whole; [`Servers`] are one server of each kind that a test may break.
//!
//! **Campus.** A [`campus::Campus`] is a course platform's data with everything that makes cleaning up hard. It knows
//! what becomes of each resource when given courses are deleted, and a [`Snapshot`] tells what really became of it.

mod bullmq;
mod callers;
pub mod campus;
mod certificates;
mod cleanup;
pub mod config;
mod objects;
mod pgbouncer;
mod ports;
mod postgres;
mod program;
mod proxy;
mod python;
mod qdrant;
mod queues;
mod rclone;
mod redis;
mod redis_cluster;
mod redis_sentinel;
mod server;
mod snapshot;
mod world;

use self::bullmq::QUEUE_PREFIX;
pub use self::{
    bullmq::Bullmq,
    callers::Callers,
    certificates::certificates,
    objects::{Bucket, Conditions, Objects},
    pgbouncer::{PgBouncer, Pooling},
    ports::free_port,
    postgres::{Database, Postgres},
    program::program,
    proxy::{Behaviour, Proxy},
    python::Python,
    qdrant::{Collections, Qdrant, QdrantOptions},
    rclone::Rclone,
    redis::{Keyspace, Redis},
    redis_cluster::RedisCluster,
    redis_sentinel::RedisSentinels,
    server::Server,
    snapshot::{Difference, PointId, Resource, Snapshot},
    world::{Addresses, Servers, Stores, World},
};
