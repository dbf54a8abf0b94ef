//! A bucket as a store, and another one for the archives: deleted, kept and brought back by the program itself.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use course_gc::domain::report::Verdict;
use course_gc::stores::objects::{Bucket, BucketSettings};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use sandbox::campus::{Campus, CampusSize};
use sandbox::config::Settings;
use sandbox::{Objects, World};

use crate::support::Installation;

pub fn bucket(server: &Objects, name: &str) -> Result<Bucket> {
    Ok(Bucket::new(&BucketSettings {
        url: server.url(),
        bucket: name.to_owned(),
        region: Objects::REGION.to_owned(),
        access_key: Some(Objects::ACCESS_KEY.into()),
        secret_key: Some(Objects::SECRET_KEY.into()),
        call_timeout: Duration::from_secs(30),
    })?)
}

/// Everything but what the collector keeps for itself.
pub async fn contents(bucket: &Bucket) -> Result<BTreeMap<String, Bytes>> {
    let mut contents = BTreeMap::new();
    for name in names(bucket).await?.into_iter().filter(|name| !name.starts_with(".course-gc/")) {
        let content = bucket.s3().get(&Path::parse(&name)?).await?.bytes().await?;
        contents.insert(name, content);
    }
    Ok(contents)
}

async fn names(bucket: &Bucket) -> Result<Vec<String>> {
    Ok(bucket.s3().list(None).map_ok(|object| object.location.to_string()).try_collect().await?)
}

/// Adds a store of the bucket to the configuration, and puts the archives into the other bucket.
pub fn configure(installation: &Installation, server: &Objects) -> Result<()> {
    let folder = installation.path().parent().context("no folder")?.to_owned();
    std::fs::write(folder.join("access_key"), Objects::ACCESS_KEY)?;
    std::fs::write(folder.join("secret_key"), Objects::SECRET_KEY)?;
    let place = |indent: &str, bucket: &str| {
        let lines = [
            format!("url: {}", server.url()),
            format!("bucket: {bucket}"),
            "access_key_file: access_key".to_owned(),
            "secret_key_file: secret_key".to_owned(),
        ];
        lines.map(|line| format!("{indent}{line}\n")).concat()
    };
    let media = format!(
        "  media:\n    kind: objects\n    layout: \"{{organization_id}}/{{course_id}}\"\n{}quarantine:\n  bucket:\n{}",
        place("    ", Objects::BUCKET),
        place("    ", Objects::OTHER_BUCKET),
    );
    let text = std::fs::read_to_string(installation.path())?;
    let (before, after) = text.split_once("quarantine:\n").context("no quarantine")?;
    let (_folder, after) = after.split_once('\n').context("no folder of the quarantine")?;
    Ok(std::fs::write(installation.path(), format!("{before}{media}{after}"))?)
}

#[tokio::test]
async fn s12_what_goes_from_a_bucket_comes_back_byte_for_byte() -> Result<()> {
    let (world, server) = (World::create().await?, Objects::start().await?);
    let settings = Settings { departed: "0s".to_owned(), ..Settings::default() };
    let installation = Installation::new(world.addresses(), &settings).await?;
    configure(&installation, &server)?;
    let campus = Campus::plan(CampusSize::default());
    campus.seed(&installation.stores).await?;
    let (media, archives) = (bucket(&server, Objects::BUCKET)?, bucket(&server, Objects::OTHER_BUCKET)?);
    let put = async |name: String| -> Result<()> {
        media.s3().put(&Path::parse(&name)?, name.into_bytes().into()).await?;
        Ok(())
    };
    let live: Vec<String> =
        sqlx::query_scalar("SELECT id::text FROM public.courses").fetch_all(&installation.stores.postgres).await?;
    for course in &live {
        put(format!("org/{course}/cover.png")).await?;
        put(format!("org/{course}/lessons/1.webm")).await?;
    }
    put("org/logo.png".to_owned()).await?;
    let first = installation.run().await?;
    assert_eq!((first.verdict, first.swept().deleted), (Verdict::Clean, 0), "{first:?}");

    campus.delete_doomed(&installation.stores).await?;
    let before = contents(&media).await?;
    let report = installation.run().await?;
    assert_eq!(report.verdict, Verdict::Done, "{report:?}");
    let doomed: Vec<String> = campus.doomed().iter().map(ToString::to_string).collect();
    let mut expected = before.clone();
    expected.retain(|name, _| !doomed.iter().any(|course| name.contains(course)));
    assert!(!doomed.is_empty() && expected.len() < before.len());
    assert_eq!(contents(&media).await?, expected, "what is nobody's any more is gone, and nothing else");
    let kept = names(&archives).await?;
    assert!(kept.iter().all(|name| name.starts_with(".course-gc/archives/")), "{kept:?}");
    assert!(kept.iter().any(|name| name.contains("/cache/")), "keys lie in the other bucket: {kept:?}");

    let run = report.run.to_string();
    for arguments in [&["quarantine", "verify"][..], &["restore", "--run", &run]] {
        let answer = installation.program(arguments).await?;
        assert_eq!(answer.code, Some(0), "{answer:?}");
    }
    assert_eq!(contents(&media).await?, before, "byte for byte");
    Ok(())
}
