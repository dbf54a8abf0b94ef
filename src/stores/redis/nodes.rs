//! All servers that hold a store's keys: one server, the one that sentinels name, or the masters of a cluster.
//!
//! Who they are is asked anew for each operation: from a cluster by CLUSTER SLOTS, from sentinels by name. A server that has
//! been given up, or a slot that has moved since, answers with an error (READONLY, MOVED, ASK), without doing anything. Such
//! an answer is that key's outcome: it is never followed to another server, so no delete is sent twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use redis::{Pipeline, RedisResult};
use secrecy::SecretString;

use super::StoreError;
use super::link::{Call, Kind, Lease, Link, ServerSettings};
use super::slots::Slots;
use crate::errors::chain;
use crate::pace::Pace;

/// The way to all servers of a store.
pub(in crate::stores) struct Nodes {
    /// By the URL; with sentinels its host is a name that only they know.
    first: Arc<Link>,
    /// Further nodes of the cluster that the configuration names.
    further: Vec<Arc<Link>>,
    sentinels: Vec<Arc<Link>>,
    /// Servers that others named, so that their connections are kept.
    found: Mutex<Vec<Arc<Link>>>,
}

/// The servers that hold the keys, for one operation; each is connected to when it is first needed.
pub(in crate::stores) struct Servers {
    doing: &'static str,
    /// Never none.
    members: Vec<Member>,
    /// Of who was asked first.
    version: String,
    /// Of a cluster, whose the keys are.
    slots: Option<Slots>,
}

struct Member {
    link: Arc<Link>,
    lease: Option<Lease>,
}

/// What one server answered about its keys.
pub(in crate::stores) struct Part<T> {
    pub(in crate::stores) call: Call,
    /// Which of the keys are its.
    pub(in crate::stores) places: Vec<usize>,
    /// One answer a key; or why there is none.
    pub(in crate::stores) answers: Result<Vec<RedisResult<T>>, StoreError>,
}

impl Nodes {
    /// The way for reading, copying and deleting, and the one for putting back, if it is another.
    ///
    /// # Errors
    /// If an address is none, or the certificates cannot be read.
    pub(in crate::stores) fn new(
        kind: &'static Kind,
        name: &str,
        settings: &ServerSettings,
    ) -> Result<(Self, Option<Self>), StoreError> {
        let restore = settings.restore_url.as_ref().map(|url| Self::by(kind, name, url, settings)).transpose()?;
        Ok((Self::by(kind, name, &settings.url, settings)?, restore))
    }

    fn by(kind: &'static Kind, name: &str, url: &SecretString, settings: &ServerSettings) -> Result<Self, StoreError> {
        let link = |url: &SecretString| Link::new(kind, name, url, settings.ca.as_deref(), settings.call_timeout);
        let first = link(url)?;
        let further = settings.nodes.iter().map(|node| {
            let (host, port) = host_and_port(node).ok_or_else(|| {
                StoreError::Unusable(format!(
                    "{} store `{name}` has no usable node `{node}`; write host:port",
                    kind.name
                ))
            })?;
            first.to(host, port).map(Arc::new)
        });
        Ok(Self {
            further: further.collect::<Result<_, _>>()?,
            sentinels: settings.sentinels.iter().map(|url| link(url).map(Arc::new)).collect::<Result<_, _>>()?,
            first: Arc::new(first),
            found: Mutex::default(),
        })
    }

    /// The same servers, called at this pace.
    pub(in crate::stores) fn paced(self, pace: &Pace) -> Self {
        let paced = |link: &Arc<Link>| Arc::new(link.paced(pace));
        Self { first: paced(&self.first), further: self.further.iter().map(paced).collect(), ..self }
    }

    pub(in crate::stores) fn name(&self) -> &str {
        self.first.name()
    }

    /// Asks who holds the keys now. `doing` is what it is for, in words.
    ///
    /// # Errors
    /// If nobody tells, who tells is not to be relied on, or a server alone is no primary.
    pub(in crate::stores) async fn servers(&self, doing: &'static str) -> Result<Servers, StoreError> {
        let mut lease = self.entrance(doing).await?;
        let server = lease.server().await?;
        if server.in_cluster {
            let slots = lease.slots().await?;
            lease.give_back();
            let links = self.links(slots.masters().iter().map(|master| (&master.host[..], master.port)))?;
            let members = links.into_iter().map(|link| Member { link, lease: None }).collect();
            return Ok(Servers { doing, members, version: server.version, slots: Some(slots) });
        }
        if !self.further.is_empty() {
            let why = format_args!("it is no node of a cluster, but `nodes` names others; remove them");
            return Err(lease.call().unusable(why));
        }
        server.primary().map_err(|why| lease.call().unusable(format_args!("{why}")))?;
        let member = Member { link: Arc::clone(lease.call().link()), lease: Some(lease) };
        Ok(Servers { doing, members: vec![member], version: server.version, slots: None })
    }

    /// What the servers are, in words.
    ///
    /// # Errors
    /// As [`Nodes::servers`].
    pub(in crate::stores) async fn identity(&self) -> Result<String, StoreError> {
        let servers = self.servers("identify the server").await?;
        let identity = match &servers.slots {
            None => format!("redis {} at {}", servers.version, servers.addresses().join(", ")),
            Some(_) => format!("redis {}, cluster of masters at {}", servers.version, servers.addresses().join(", ")),
        };
        servers.give_back();
        Ok(identity)
    }

    /// The server that a URL names and that answers; with sentinels, the one that they name.
    async fn entrance(&self, doing: &'static str) -> Result<Lease, StoreError> {
        let mut given: Vec<Arc<Link>> = [&self.first].into_iter().chain(&self.further).cloned().collect();
        if !self.sentinels.is_empty() {
            let (host, port) = self.named_by_sentinels(doing).await?;
            given = self.links([(&host[..], port)].into_iter())?;
        }
        let mut refused = None;
        for link in given {
            match link.lease(doing).await {
                Ok(lease) => return Ok(lease),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or_else(|| self.first.call(doing).unusable(format_args!("no address is known"))))
    }

    /// Servers by their addresses. Those that nobody names any more are forgotten.
    fn links<'s>(&self, addresses: impl Iterator<Item = (&'s str, u16)>) -> Result<Vec<Arc<Link>>, StoreError> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |host, port| {
            let mut all = [&self.first].into_iter().chain(&self.further).chain(found.iter());
            all.find(|link| link.is_at(host, port)).cloned()
        };
        let links = addresses.map(|(host, port)| match known(host, port) {
            Some(link) => Ok(link),
            None => self.first.to(host, port).map(Arc::new),
        });
        let links: Vec<_> = links.collect::<Result<_, _>>()?;
        found.clone_from(&links);
        Ok(links)
    }

    /// The primary that the first sentinel that answers names.
    async fn named_by_sentinels(&self, doing: &'static str) -> Result<(String, u16), StoreError> {
        let mut refused = None;
        for sentinel in &self.sentinels {
            match self.ask(sentinel, doing).await {
                Ok(address) => return Ok(address),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or_else(|| self.first.call(doing).unusable(format_args!("no sentinel is known"))))
    }

    async fn ask(&self, sentinel: &Arc<Link>, doing: &'static str) -> Result<(String, u16), StoreError> {
        let mut lease = sentinel.lease(doing).await?;
        let master = self.first.host();
        let mut ask = redis::cmd("SENTINEL");
        ask.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
        let answer = ask.query_async::<Option<(String, u16)>>(lease.connection()).await;
        let answer = answer.map_err(|error| lease.call().failed(error))?;
        let unknown = || {
            lease
                .call()
                .unusable(format_args!("this sentinel knows no server `{master}`; write its name as the host in url"))
        };
        let address = answer.ok_or_else(unknown)?;
        lease.give_back();
        Ok(address)
    }

    /// Looks whether the sentinels still name this server.
    ///
    /// # Errors
    /// If they name another, or nobody tells.
    pub(in crate::stores) async fn still_named(&self, call: &Call, doing: &'static str) -> Result<(), StoreError> {
        if self.sentinels.is_empty() {
            return Ok(());
        }
        let (host, port) = self.named_by_sentinels(doing).await?;
        if call.link().is_at(&host, port) {
            return Ok(());
        }
        Err(call.unusable(format_args!("its sentinels name {host}:{port} now; run again")))
    }
}

impl Servers {
    /// Whose all slots are, if it is a cluster.
    pub(in crate::stores) fn slots(&self) -> Option<&Slots> {
        self.slots.as_ref()
    }

    fn addresses(&self) -> Vec<&str> {
        self.members.iter().map(|member| member.link.address()).collect()
    }

    /// Connections to all of them.
    pub(in crate::stores) async fn all(self) -> Result<Vec<Lease>, StoreError> {
        let doing = self.doing;
        try_join_all(self.members.into_iter().map(|member| member.lease(doing))).await
    }

    /// A connection to who has this key.
    pub(in crate::stores) async fn of(mut self, key: &[u8]) -> Result<Lease, StoreError> {
        let member = self.members.swap_remove(self.owner(key));
        member.lease(self.doing).await
    }

    fn owner(&self, key: &[u8]) -> usize {
        self.slots.as_ref().map_or(0, |slots| slots.owner(key)).min(self.members.len().saturating_sub(1))
    }

    /// Sends each server the calls about its keys, to all servers at once. `calls` makes one call for each of the keys at the
    /// given places. `time_left` is asked right before they are sent, for how long the answers may be waited for; without any, they
    /// are not sent, and there is no part of them.
    pub(in crate::stores) async fn send<'k, T: redis::FromRedisValue>(
        &mut self,
        keys: impl Iterator<Item = &'k [u8]>,
        time_left: impl Fn() -> Option<Duration>,
        calls: impl Fn(&[usize]) -> Pipeline,
    ) -> Vec<Part<T>> {
        let mut shares: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (place, key) in keys.enumerate() {
            shares.entry(self.owner(key)).or_default().push(place);
        }
        let (doing, time_left) = (self.doing, &time_left);
        let parts = self.members.iter_mut().enumerate().filter_map(|(at, member)| {
            let places = shares.remove(&at)?;
            let pipeline = calls(&places);
            Some(member.send(doing, time_left, pipeline, places))
        });
        join_all(parts).await.into_iter().flatten().collect()
    }

    /// Keeps the connections for the next operation, if everything went well on all of them.
    pub(in crate::stores) fn give_back(self) {
        self.members.into_iter().filter_map(|member| member.lease).for_each(Lease::give_back);
    }
}

impl Member {
    async fn lease(self, doing: &'static str) -> Result<Lease, StoreError> {
        match self.lease {
            Some(lease) => Ok(lease),
            None => self.link.lease(doing).await,
        }
    }

    async fn send<T: redis::FromRedisValue>(
        &mut self,
        doing: &'static str,
        time_left: impl Fn() -> Option<Duration>,
        pipeline: Pipeline,
        places: Vec<usize>,
    ) -> Option<Part<T>> {
        let lease = match self.lease.take() {
            Some(lease) => Ok(lease),
            None => self.link.lease(doing).await,
        };
        let mut lease = match lease {
            Ok(lease) => lease,
            Err(error) => return Some(Part { call: self.link.call(doing), places, answers: Err(error) }),
        };
        let turn = lease.turn().await;
        lease.limit(time_left()?);
        let call = lease.call().clone();
        let answers: RedisResult<Vec<RedisResult<T>>> = pipeline.query_async(lease.connection()).await;
        turn.end();
        let answers = match answers {
            Ok(answers) if answers.len() == places.len() => Ok(answers),
            Ok(answers) => Err(call.unusable(format_args!("{} answers to {} commands", answers.len(), places.len()))),
            Err(error) => Err(call.failed(error)),
        };
        // One on which a call failed is closed: what it has not sent yet must not be sent late.
        self.lease = answers.is_ok().then_some(lease);
        Some(Part { call, places, answers })
    }
}

impl<T> Part<T> {
    /// Writes what became of each of the keys into its place: what its answer means, or why there is none.
    pub(in crate::stores) fn write<O>(
        self,
        outcomes: &mut [O],
        read: impl Fn(&Call, RedisResult<T>) -> O,
        failed: impl Fn(String) -> O,
    ) {
        let Self { call, places, answers } = self;
        let all: Vec<O> = match answers {
            Ok(answers) => answers.into_iter().map(|answer| read(&call, answer)).collect(),
            Err(error) => places.iter().map(|_| failed(chain(&error))).collect(),
        };
        for (place, outcome) in places.into_iter().zip(all) {
            if let Some(there) = outcomes.get_mut(place) {
                *there = outcome;
            }
        }
    }
}

/// The parts of `host:port`; an IPv6 address stands in brackets.
fn host_and_port(node: &str) -> Option<(&str, u16)> {
    let (host, port) = node.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then_some((host, port.parse().ok()?))
}
