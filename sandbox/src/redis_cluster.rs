//! A Redis Cluster of one's own: three masters.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use redis::Value;

use crate::redis::{Redis, connect};

/// How many slots there are.
const SLOTS: u16 = 16_384;
const WHOLE_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Three masters, each with a third of the slots and no replicas, gone with the handle.
pub struct RedisCluster {
    masters: Vec<Redis>,
}

impl RedisCluster {
    /// Starts the servers and makes them a cluster.
    ///
    /// # Errors
    ///
    /// When Redis is not installed, a server does not start, or they do not find each other.
    pub async fn start() -> Result<Self> {
        let masters = futures::future::try_join_all((0..3).map(|_| Redis::start_in_cluster())).await?;
        let cluster = Self { masters };
        for (n, (first, last)) in [(0, 5460), (5461, 10_922), (10_923, SLOTS - 1)].into_iter().enumerate() {
            cluster.tell(n, &["ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await?;
            cluster.tell(n, &["SET-CONFIG-EPOCH", &(n + 1).to_string()]).await?;
            if n > 0 {
                cluster.tell(0, &["MEET", "127.0.0.1", &cluster.masters[n].port().to_string()]).await?;
            }
        }
        let whole = async {
            for n in 0..cluster.masters.len() {
                while !cluster.sees_all(n).await? {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(WHOLE_WITHIN, whole).await.context("the cluster is not whole in time")??;
        Ok(cluster)
    }

    /// The masters, in the order of their slots.
    pub fn masters(&self) -> &[Redis] {
        &self.masters
    }

    /// The URL of the first of them.
    pub fn url(&self) -> String {
        self.masters[0].url()
    }

    /// Which master was given this key's slot at the start, by its place in [`RedisCluster::masters`].
    ///
    /// # Errors
    ///
    /// When the cluster does not answer.
    pub async fn owner(&self, key: &[u8]) -> Result<usize> {
        let slot = self.slot(key).await?;
        Ok(usize::from(slot > 5460) + usize::from(slot > 10_922))
    }

    /// The slot of a key.
    ///
    /// # Errors
    ///
    /// When the first master does not answer.
    pub async fn slot(&self, key: &[u8]) -> Result<u16> {
        let mut connection = connect(&self.url()).await?;
        Ok(redis::cmd("CLUSTER").arg("KEYSLOT").arg(key).query_async(&mut connection).await?)
    }

    /// Begins to move a slot from one master to another: both know of it, and no key has moved yet.
    ///
    /// # Errors
    ///
    /// When one of them refuses.
    pub async fn begin_to_move(&self, slot: u16, from: usize, to: usize) -> Result<()> {
        let (from_id, to_id) = (self.id(from).await?, self.id(to).await?);
        self.tell(to, &["SETSLOT", &slot.to_string(), "IMPORTING", &from_id]).await?;
        self.tell(from, &["SETSLOT", &slot.to_string(), "MIGRATING", &to_id]).await
    }

    /// Ends what [`RedisCluster::begin_to_move`] began: the keys move, and then the slot is the other's.
    ///
    /// # Errors
    ///
    /// When one of them refuses, or they do not agree in time.
    pub async fn end_to_move(&self, slot: u16, from: usize, to: usize) -> Result<()> {
        let mut connection = connect(&self.masters[from].url()).await?;
        let keys: Vec<Vec<u8>> =
            redis::cmd("CLUSTER").arg("GETKEYSINSLOT").arg(slot).arg(10_000).query_async(&mut connection).await?;
        for key in keys {
            let mut migrate = redis::cmd("MIGRATE");
            migrate.arg("127.0.0.1").arg(self.masters[to].port()).arg(key).arg(0).arg(10_000);
            migrate.query_async::<Value>(&mut connection).await?;
        }
        let to_id = self.id(to).await?;
        for n in [to, from] {
            self.tell(n, &["SETSLOT", &slot.to_string(), "NODE", &to_id]).await?;
        }
        let agreed = async {
            for n in 0..self.masters.len() {
                while !self.sees_owner(n, slot, &to_id).await? {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(WHOLE_WITHIN, agreed).await.context("the masters do not agree in time")?
    }

    /// The id of a master's node.
    async fn id(&self, master: usize) -> Result<String> {
        let mut connection = connect(&self.masters[master].url()).await?;
        Ok(redis::cmd("CLUSTER").arg("MYID").query_async(&mut connection).await?)
    }

    async fn tell(&self, master: usize, words: &[&str]) -> Result<()> {
        let mut connection = connect(&self.masters[master].url()).await?;
        let told: redis::RedisResult<()> = redis::cmd("CLUSTER").arg(words).query_async(&mut connection).await;
        told.with_context(|| format!("CLUSTER {}", words.join(" ")))
    }

    /// Whether a master sees the cluster whole, with all three of them.
    async fn sees_all(&self, master: usize) -> Result<bool> {
        let mut connection = connect(&self.masters[master].url()).await?;
        let info: String = redis::cmd("CLUSTER").arg("INFO").query_async(&mut connection).await?;
        Ok(info.contains("cluster_state:ok") && info.contains("cluster_size:3"))
    }

    async fn sees_owner(&self, master: usize, slot: u16, id: &str) -> Result<bool> {
        let mut connection = connect(&self.masters[master].url()).await?;
        let nodes: String = redis::cmd("CLUSTER").arg("NODES").query_async(&mut connection).await?;
        ensure!(nodes.contains(id), "the cluster knows no node {id}");
        let owns = |line: &str| {
            line.split_whitespace().skip(8).filter(|field| !field.starts_with('[')).any(|field| {
                let (first, last) = field.split_once('-').unwrap_or((field, field));
                let bounds = (first.parse::<u16>(), last.parse::<u16>());
                matches!(bounds, (Ok(first), Ok(last)) if (first..=last).contains(&slot))
            })
        };
        Ok(nodes.lines().any(|line| line.starts_with(id) && owns(line)))
    }
}

/// The settings of a node of a cluster, beside the ports.
pub(crate) fn settings(folder: &Path) -> [String; 6] {
    let file = folder.join("nodes.conf").display().to_string();
    ["--cluster-enabled", "yes", "--cluster-config-file", &file, "--cluster-node-timeout", "1000"].map(str::to_owned)
}
