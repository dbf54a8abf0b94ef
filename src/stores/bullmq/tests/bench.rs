//! The contract of all stores. Its jobs are written as BullMQ writes them, in each state in turn.

use std::sync::atomic::{AtomicU64, Ordering};

use sandbox::{Keyspace, RedisCluster};

use super::*;
use crate::stores::contract::{self, Bench, Contents};

/// By source, a queue that it claims.
const QUEUES: [&str; 2] = ["course-generation", "qdrant-reindex-7"];
const SETS: [&str; 5] = ["completed", "waiting-children", "delayed", "failed", "prioritized"];
const LISTS: [&str; 3] = ["wait", "paused", "active"];

struct JobBench {
    /// Keeps the servers.
    _place: Place,
    /// Of the server that has the queues.
    url: String,
    store: BullmqStore,
    id_type: IdType,
    planted: AtomicU64,
}

enum Place {
    Alone { _keyspace: Keyspace },
    Cluster { _cluster: RedisCluster },
}

impl JobBench {
    async fn alone(id_type: IdType) -> Self {
        let keyspace = Keyspace::create().await.unwrap();
        let url = keyspace.url().to_owned();
        Self::create(Place::Alone { _keyspace: keyspace }, [&url, &url], id_type).await
    }

    /// In a cluster, and the store is told another master than the one that has the queues.
    async fn in_cluster(id_type: IdType) -> Self {
        let cluster = RedisCluster::start().await.unwrap();
        let owner = cluster.owner(PREFIX.as_bytes()).await.unwrap();
        let [url, other] = [owner, (owner + 1) % 3].map(|n| cluster.masters()[n].url());
        Self::create(Place::Cluster { _cluster: cluster }, [&url, &other], id_type).await
    }

    /// With the address that has the queues, and the one that the store is told.
    async fn create(place: Place, [url, told]: [&str; 2], id_type: IdType) -> Self {
        let store = store(told, id_type, &["course-generation", "qdrant-reindex-*"]);
        let bench = Self { _place: place, url: url.to_owned(), store, id_type, planted: AtomicU64::new(0) };
        let mut connection = connect(&bench.url).await;
        for queue in QUEUES {
            let mut meta = cmd("HSET");
            meta.arg(format!("{PREFIX}:{queue}:meta")).arg("opts.maxLenEvents").arg(10_000).arg("version");
            meta.arg("bullmq:6.7.0").query_async::<()>(&mut connection).await.unwrap();
        }
        bench
    }

    /// Adds a job with these data, in the next state in turn.
    async fn add(&self, source: SourceIndex, data: String) -> Vec<u8> {
        let n = self.planted.fetch_add(1, Ordering::Relaxed);
        let base = format!("{PREFIX}:{}:", QUEUES[source.0]);
        let (id, state) = (format!("n{n}"), ["wait", "delayed", "completed", "failed", "prioritized", "nowhere"]);
        let state = state[(n % 6) as usize];
        let key = format!("{base}{id}");
        let mut pipe = ::redis::pipe();
        pipe.cmd("HSET").arg(&key).arg("name").arg("work").arg("data").arg(data).arg("opts").arg("{}");
        pipe.arg("timestamp").arg(1_700_000_000_000 + n).arg("delay").arg(0).arg("priority").arg(0);
        match state {
            "nowhere" => {}
            "wait" => {
                pipe.cmd("LPUSH").arg(format!("{base}wait")).arg(&id);
                pipe.cmd("HSET").arg(&key).arg("deid").arg(format!("once-{n}"));
                pipe.cmd("SET").arg(format!("{base}de:once-{n}")).arg(&id);
            }
            set => {
                pipe.cmd("ZADD").arg(format!("{base}{set}")).arg(7_166_000_000_000_000 + n).arg(&id);
                pipe.cmd("RPUSH").arg(format!("{key}:logs")).arg("a line").arg("and another");
            }
        }
        pipe.query_async::<()>(&mut connect(&self.url).await).await.unwrap();
        key.into_bytes()
    }
}

#[async_trait]
impl Bench for JobBench {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    fn id_type(&self) -> IdType {
        self.id_type
    }

    async fn plant(&self, source: SourceIndex, course: CourseId) -> Vec<u8> {
        self.add(source, format!(r#"{{"courseId":"{course}","n":[1,{{}}]}}"#)).await
    }

    async fn plant_entangled(&self, source: SourceIndex, owner: CourseId, other: CourseId) -> Option<Vec<u8>> {
        Some(self.add(source, format!(r#"{{"courseId":["{owner}","{other}"]}}"#)).await)
    }

    async fn plant_unrecognised(&self, source: SourceIndex) -> Option<Vec<u8>> {
        Some(self.add(source, r#"{"courseId":"../../etc"}"#.to_owned()).await)
    }

    async fn rewrite(&self, _: SourceIndex, _: CourseId, name: &[u8]) -> bool {
        let mut connection = connect(&self.url).await;
        cmd("HSET").arg(name).arg("progress").arg(50).query_async::<()>(&mut connection).await.unwrap();
        true
    }

    /// Each job with all that belongs to it; and what else there is, but the structures of the queues, whose members are told
    /// with the jobs. A member without a job is a thing of its own.
    async fn contents(&self) -> Contents {
        let all = everything(&self.url).await;
        let mut contents = BTreeMap::new();
        let belongs = |key: &str| {
            let id = key.rsplit(':').next().unwrap_or_default();
            let is_list = LISTS.contains(&id) || SETS.contains(&id) || id == "marker";
            is_list || key.ends_with(":logs") || key.contains(":de:")
        };
        for (key, content) in all.iter().filter(|(key, _)| !belongs(key)) {
            contents.insert(key.clone().into_bytes(), content.clone());
        }
        let mut connection = connect(&self.url).await;
        for queue in QUEUES {
            let base = format!("{PREFIX}:{queue}:");
            for n in 0..self.planted.load(Ordering::Relaxed) {
                let id = format!("n{n}");
                let mut belongings = Vec::new();
                for beside in [format!("{base}{id}:logs"), format!("{base}de:once-{n}")] {
                    belongings.extend(all.get(&beside).cloned());
                }
                for set in SETS {
                    let score: Option<String> =
                        cmd("ZSCORE").arg(format!("{base}{set}")).arg(&id).query_async(&mut connection).await.unwrap();
                    belongings.extend(score.map(|score| format!("{set} {score}")));
                }
                for list in LISTS {
                    let at: Option<u64> =
                        cmd("LPOS").arg(format!("{base}{list}")).arg(&id).query_async(&mut connection).await.unwrap();
                    belongings.extend(at.map(|_| list.to_owned()));
                }
                if !belongings.is_empty() {
                    contents.entry(format!("{base}{id}").into_bytes()).or_default().push_str(&belongings.join(", "));
                }
            }
        }
        contents.retain(|name, _| !name.ends_with(b":meta"));
        contents
            .into_iter()
            .map(|(name, content)| (name, content.into_bytes()))
            .filter(|(name, _)| is_ours(name))
            .collect()
    }
}

/// The sandbox marks a given server's database.
fn is_ours(name: &[u8]) -> bool {
    name.starts_with(PREFIX.as_bytes())
}

#[tokio::test]
async fn bullmq_keeps_the_contract_for_uuids() {
    contract::keeps(&JobBench::alone(IdType::Uuid).await).await;
}

#[tokio::test]
async fn bullmq_keeps_the_contract_for_integers() {
    contract::keeps(&JobBench::alone(IdType::Integer).await).await;
}

#[tokio::test]
async fn bullmq_keeps_the_contract_for_texts() {
    contract::keeps(&JobBench::alone(contract::texts()).await).await;
}

#[tokio::test]
async fn bullmq_keeps_the_contract_in_a_cluster() {
    contract::keeps(&JobBench::in_cluster(IdType::Uuid).await).await;
}
