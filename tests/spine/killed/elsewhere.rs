//! The same in stores that the campus does not have by itself: a queue, a table and a bucket.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use redis::{AsyncCommands, cmd};
use sandbox::{Bullmq, Objects};
use serde_json::json;

use super::*;
use crate::{jobs, objects, tables};

/// How much a course has that is going to be deleted: so that a batch is more than the hundred that are sent at once.
const EACH: usize = 10;

/// A store beside those of the campus.
enum Place {
    Jobs(Bullmq),
    Rows,
    Media(Objects),
}

impl Place {
    fn name(&self) -> &'static str {
        match self {
            Self::Jobs(_) => "jobs",
            Self::Rows => "rows",
            Self::Media(_) => "media",
        }
    }

    fn configure(&self, installation: &Installation) -> Result<()> {
        match self {
            Self::Jobs(_) => jobs::configure(installation),
            Self::Rows => Ok(()),
            Self::Media(server) => objects::configure(installation, server),
        }
    }

    /// Gives each course as much as is said. The rows come with the campus.
    async fn plant(&self, courses: &[(String, usize)]) -> Result<()> {
        match self {
            Self::Jobs(bullmq) => {
                let fill = |(course, count): &(String, usize)| json!({ "do": "fill", "queue": jobs::QUEUE, "count": count, "data": { "courseId": course }, "id": course });
                bullmq.drive(courses.iter().map(fill).collect()).await?;
            }
            Self::Rows => {}
            Self::Media(server) => {
                let media = objects::bucket(server, Objects::BUCKET)?;
                let names = courses
                    .iter()
                    .flat_map(|(course, count)| (0..*count).map(move |n| format!("org/{course}/lesson {n}.webm")));
                let put = async |name: String| -> Result<()> {
                    media.s3().put(&Path::parse(&name)?, name.into_bytes().into()).await?;
                    Ok(())
                };
                stream::iter(names).map(put).buffer_unordered(8).try_collect::<()>().await?;
            }
        }
        Ok(())
    }

    /// All that is there, by its name; what is a course's has its id in the name.
    async fn contents(&self, installation: &Installation) -> Result<BTreeMap<String, Vec<u8>>> {
        match self {
            Self::Jobs(bullmq) => {
                let mut redis = installation.stores.redis.clone();
                let base = format!("{}:{}:", bullmq.prefix, jobs::QUEUE);
                let mut contents = BTreeMap::new();
                for id in redis.lrange::<_, Vec<String>>(format!("{base}wait"), 0, -1).await? {
                    contents.insert(format!("waiting {id}"), Vec::new());
                }
                for key in redis.keys::<_, Vec<String>>(format!("{base}*")).await? {
                    let is_job: bool = redis.hexists(&key, "data").await.unwrap_or(false);
                    if is_job {
                        contents.insert(key.clone(), cmd("DUMP").arg(&key).query_async(&mut redis).await?);
                    }
                }
                Ok(contents)
            }
            Self::Rows => {
                let rows = tables::rows(installation).await?.into_keys();
                Ok(rows.map(|row| (row, Vec::new())).collect())
            }
            Self::Media(server) => {
                let media = objects::bucket(server, Objects::BUCKET)?;
                let contents = objects::contents(&media).await?.into_iter();
                Ok(contents.map(|(name, content)| (name, content.to_vec())).collect())
            }
        }
    }
}

/// Killed between copy and delete, and half way through a delete; then half way while somebody comes back whose things have gone.
/// `deleting` is the moment where a part of a batch has gone.
async fn killed_there(place: Place, deleting: u64) -> Result<()> {
    let world = World::create().await?;
    let tables = if matches!(place, Place::Rows) { vec![tables::TABLE.to_owned()] } else { Vec::new() };
    let limits = vec!["refuse_drop: 50%".to_owned()];
    let settings = Settings { departed: "0s".to_owned(), limits, tables, ..Settings::default() };
    let mut place = place;
    if let Place::Jobs(bullmq) = &mut place {
        bullmq.url = world.addresses().redis;
    }
    let installation = Installation::new(world.addresses(), &settings).await?;
    place.configure(&installation)?;
    let campus = Campus::plan(CampusSize { courses: 100, doomed: 37, points: 1, ..CampusSize::default() });
    campus.seed(&installation.stores).await?;
    let doomed = campus.doomed();
    let amounts = campus.courses.iter().map(|course| {
        let amount = if doomed.contains(&course.id) { EACH } else { 1 };
        (course.id.to_string(), amount)
    });
    place.plant(&amounts.collect::<Vec<_>>()).await?;
    let first = installation.run().await?;
    assert_eq!((first.halt.as_deref(), first.swept().deleted), (None, 0), "{first:?}");

    let mut expected = place.contents(&installation).await?;
    assert!(expected.len() >= campus.courses.len());
    let mut doomed: Vec<String> = Vec::from_iter(doomed.iter().map(ToString::to_string));
    let ids: BTreeMap<String, CourseId> = campus.doomed().into_iter().map(|id| (id.to_string(), id)).collect();
    let of = |courses: &[String], name: &str| courses.iter().any(|course| name.contains(course.as_str()));

    for (moment, number, courses) in [("copied", 2, 5), ("deleting", deleting, 24), ("deleting", 1, 8)] {
        let point = Point { store: place.name(), moment, number };
        let mut group: Vec<String> = doomed.drain(..courses).collect();
        for course in &group {
            campus.delete_row(&installation.stores, ids[course]).await?;
        }
        killed_at(&installation, point).await?;
        let killed = place.contents(&installation).await?;
        let (there, gone): (Vec<&String>, Vec<&String>) =
            expected.keys().filter(|name| of(&group, name)).partition(|name| killed.contains_key(*name));
        assert!(!there.is_empty() && !gone.is_empty(), "{point:?}: half way: {} {}", there.len(), gone.len());

        // The last time the one comes back of whom something has gone.
        let back = if doomed.is_empty() {
            group.iter().position(|course| gone.iter().any(|it| it.contains(course)))
        } else {
            None
        };
        let back = back.map(|at| group.remove(at));
        if let Some(back) = &back {
            campus.revive(&installation.stores, ids[back]).await?;
            // The campus gives it a new row there; it is the old one that has to come back.
            let renewed = "DELETE FROM public.rag_context_cache WHERE course_id = $1::uuid";
            sqlx::query(renewed).bind(back).execute(&installation.stores.postgres).await?;
        }
        let report = run(&installation).await?;
        let store = report.stores.iter().find(|store| store.name == place.name()).context("no such store")?;
        let told: Vec<String> = store.live_after_delete.iter().map(ToString::to_string).collect();
        let failures: Vec<&String> =
            report.stores.iter().flat_map(|store| store.error.iter().chain(&store.failures)).collect();
        assert_eq!((told, failures.len()), (Vec::from_iter(back), 0), "{point:?}: {failures:?}");
        expected.retain(|name, _| !of(&group, name));
        let after = place.contents(&installation).await?;
        let differs: Vec<&String> = expected
            .iter()
            .chain(&after)
            .map(|(name, _)| name)
            .filter(|name| expected.get(*name) != after.get(*name))
            .collect();
        assert!(differs.is_empty(), "{point:?}: what lives is as it was, and nothing else is left: {differs:?}");
        assert_eq!(open_intents(&installation).await?, BTreeSet::new(), "{point:?}");
    }
    Ok(())
}

/// Four batches; the last one's jobs are sent a hundred at a time.
#[tokio::test]
async fn s11_killed_while_jobs_go() -> Result<()> {
    killed_there(Place::Jobs(Bullmq { major: 5, url: String::new(), prefix: "bull".to_owned() }), 4).await
}

/// A course is a transaction of its own: one in the first batch, ten in the second.
#[tokio::test]
async fn s11_killed_while_rows_go() -> Result<()> {
    killed_there(Place::Rows, 4).await
}

/// As jobs.
#[tokio::test]
async fn s11_killed_while_objects_go() -> Result<()> {
    killed_there(Place::Media(Objects::start().await?), 4).await
}
