//! A Redis with a replica, and sentinels that watch over both.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{
    program::program,
    redis::{Redis, connect},
    server::{Kind, Server},
};

static KIND: Kind = Kind {
    name: "sentinel",
    ready: "+monitor master",
    port_taken: "Address already in use",
    stop: "TERM",
    last: "KILL",
};

const SETTLED_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Two servers and two sentinels that promote the second server when the first has been down for half a second, or when they
/// are told to. Gone with the handle.
pub struct RedisSentinels {
    servers: [Redis; 2],
    sentinels: Vec<Server>,
}

impl RedisSentinels {
    /// What the sentinels call the primary.
    pub const MASTER: &str = "campus-cache";

    /// Starts all of them, and waits until the sentinels know each other and the replica.
    ///
    /// # Errors
    ///
    /// When Redis is not installed, a server does not start, or they do not find each other.
    pub async fn start() -> Result<Self> {
        let primary = Redis::start().await?;
        let servers = [primary.clone(), Redis::start_as_replica(primary.port()).await?];
        let mut sentinels = Vec::new();
        for _ in 0..2 {
            let port = primary.port();
            sentinels.push(Server::start(&KIND, move |folder| prepare(folder, port), command).await?);
        }
        let all = Self { servers, sentinels };
        for n in 0..all.sentinels.len() {
            all.settle("the sentinels do not know all", async || {
                let told = all.tell(n, &["MASTER", Self::MASTER]).await?;
                let says = |name: &str, value: &str| told.windows(2).any(|pair| pair[0] == name && pair[1] == value);
                Ok(says("num-slaves", "1") && says("num-other-sentinels", "1") && says("flags", "master"))
            })
            .await?;
        }
        Ok(all)
    }

    /// The two servers; at the start the first is the primary.
    pub fn servers(&self) -> &[Redis; 2] {
        &self.servers
    }

    /// The sentinels.
    pub fn sentinels(&self) -> &[Server] {
        &self.sentinels
    }

    /// The sentinels' URLs.
    pub fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(|sentinel| format!("redis://127.0.0.1:{}", sentinel.port())).collect()
    }

    /// Tells the sentinels to promote the replica, though the primary is well.
    ///
    /// # Errors
    ///
    /// When they refuse.
    pub async fn fail_over(&self) -> Result<()> {
        let mut connection = connect(&self.urls()[0]).await?;
        Ok(redis::cmd("SENTINEL").arg("FAILOVER").arg(Self::MASTER).query_async(&mut connection).await?)
    }

    /// Waits until all sentinels name the server, and it is a primary.
    ///
    /// # Errors
    ///
    /// When they do not in time.
    pub async fn is_promoted(&self, server: usize) -> Result<()> {
        let port = self.servers[server].port().to_string();
        for n in 0..self.sentinels.len() {
            self.settle("the server is not promoted", async || {
                Ok(self.tell(n, &["GET-MASTER-ADDR-BY-NAME", Self::MASTER]).await?.get(1) == Some(&port))
            })
            .await?;
        }
        let url = self.servers[server].url();
        self.settle("the server is no primary", async || {
            let info: String = redis::cmd("INFO").arg("replication").query_async(&mut connect(&url).await?).await?;
            Ok(info.contains("role:master"))
        })
        .await
    }

    /// Waits until the second server has all that the first has written.
    ///
    /// # Errors
    ///
    /// When it does not in time.
    pub async fn is_replicated(&self) -> Result<()> {
        let offset = async |server: &Redis, name: &str| {
            let url = server.url();
            let info: String = redis::cmd("INFO").arg("replication").query_async(&mut connect(&url).await?).await?;
            let told = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            anyhow::Ok(told.map(str::to_owned))
        };
        let [first, second] = &self.servers;
        self.settle("the replica lags", async || {
            let received = offset(second, "slave_repl_offset").await?;
            Ok(received.is_some() && received == offset(first, "master_repl_offset").await?)
        })
        .await
    }

    /// Freezes the second server, and cuts its connection to the first: what the first writes from now on does not reach it.
    ///
    /// # Errors
    ///
    /// When one of them is stopped.
    pub async fn cut_off_replica(&self) -> Result<()> {
        self.servers[1].pause()?;
        let mut connection = connect(&self.servers[0].url()).await?;
        let mut kill = redis::cmd("CLIENT");
        Ok(kill.arg("KILL").arg("TYPE").arg("replica").query_async(&mut connection).await?)
    }

    async fn settle(&self, what: &str, holds: impl AsyncFn() -> Result<bool>) -> Result<()> {
        let wait = async {
            while !holds().await? {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(SETTLED_WITHIN, wait).await.with_context(|| format!("{what}, and waited long"))?
    }

    /// A sentinel's answer to a command, as a list of texts.
    async fn tell(&self, sentinel: usize, words: &[&str]) -> Result<Vec<String>> {
        let mut connection = connect(&self.urls()[sentinel]).await?;
        Ok(redis::cmd("SENTINEL").arg(words).query_async(&mut connection).await?)
    }
}

fn prepare(folder: &Path, primary: u16) -> Result<()> {
    let name = RedisSentinels::MASTER;
    let settings = format!(
        "sentinel monitor {name} 127.0.0.1 {primary} 1\n\
         sentinel down-after-milliseconds {name} 500\n\
         sentinel failover-timeout {name} 5000\n"
    );
    Ok(fs::write(file(folder), settings)?)
}

fn file(folder: &Path) -> PathBuf {
    folder.join("sentinel.conf")
}

fn command(folder: &Path, port: u16) -> Result<Vec<OsString>> {
    let mut command: Vec<OsString> = vec![program("redis-server")?.into(), file(folder).into(), "--sentinel".into()];
    let port = port.to_string();
    command.extend(["--port", &port, "--bind", "127.0.0.1", "--dir"].map(OsString::from));
    command.push(folder.into());
    Ok(command)
}
