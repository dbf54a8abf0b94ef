//! Where archives lie: a folder, or a bucket.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};

use crate::stores::objects::{Bucket, Said};

/// Where the archives in a bucket are.
const BUCKET_FOLDER: &str = ".course-gc/archives";

/// Why the place could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It refused or could not be reached.
    #[error("quarantine at {place}: could not {action}")]
    Refused {
        /// Where it is.
        place: String,
        /// What was being done.
        action: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It did not answer in time.
    #[error("quarantine at {place}: could not {action}: no answer within {seconds} s")]
    Timeout {
        /// Where it is.
        place: String,
        /// What was being done.
        action: String,
        /// The limit.
        seconds: f64,
    },
}

/// A place of named objects, each written once.
#[async_trait]
pub trait Place: Send + Sync {
    /// Where it is, in words.
    fn shown(&self) -> String;

    /// Writes an object that must not be there yet; it outlives a power cut when this returns.
    ///
    /// # Errors
    /// If it is there, or cannot be written.
    async fn put_new(&self, name: &str, content: Bytes) -> Result<(), PlaceError>;

    /// An object's content.
    ///
    /// # Errors
    /// If it is not there, or cannot be read.
    async fn get(&self, name: &str) -> Result<Bytes, PlaceError>;

    /// The names and sizes of all objects whose names begin with the folder `prefix`, in no order.
    ///
    /// # Errors
    /// If they cannot all be listed.
    async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, PlaceError>;

    /// Removes an object; harmless if it has gone.
    ///
    /// # Errors
    /// If it is still there.
    async fn remove(&self, name: &str) -> Result<(), PlaceError>;

    /// How much of the disk below is free, in percent; `None` where there is no such disk.
    ///
    /// # Errors
    /// If it cannot be looked at.
    async fn free_percent(&self) -> Result<Option<u8>, PlaceError>;
}

/// A [`Place`] in whatever the crate `object_store` reaches.
pub struct ObjectPlace {
    objects: Arc<dyn ObjectStore>,
    shown: String,
    /// The folder, if it is one.
    folder: Option<PathBuf>,
    call_timeout: Duration,
}

impl ObjectPlace {
    /// A folder, made when something is written for the first time.
    pub fn folder(folder: PathBuf, call_timeout: Duration) -> Self {
        let objects: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new().with_fsync(true));
        Self { objects, shown: folder.display().to_string(), folder: Some(folder), call_timeout }
    }

    /// The folder `.course-gc/archives` in a bucket, which no store of objects takes for a course's.
    pub fn bucket(bucket: &Bucket) -> Self {
        let objects = Arc::new(PrefixStore::new(bucket.s3().clone(), BUCKET_FOLDER));
        Self { objects, shown: bucket.shown().to_owned(), folder: None, call_timeout: bucket.call_timeout() }
    }

    fn path(&self, name: &str) -> Result<Path, PlaceError> {
        let path = match &self.folder {
            Some(folder) => Path::from_absolute_path(folder.join(name)).map_err(Into::into),
            None => Path::parse(name).map_err(Into::into),
        };
        path.map_err(|source: object_store::Error| self.refused(format!("name `{name}`"), source))
    }

    /// The name below the folder, of an object's path.
    fn name(&self, path: &Path) -> Option<String> {
        let Some(folder) = &self.folder else { return Some(path.to_string()) };
        let folder = Path::from_absolute_path(folder).ok()?;
        let parts = path.prefix_match(&folder)?;
        Some(parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"))
    }

    fn refused(&self, action: String, source: impl std::error::Error + Send + Sync + 'static) -> PlaceError {
        PlaceError::Refused { place: self.shown.clone(), action, source: Box::new(source) }
    }

    async fn call<T>(
        &self,
        action: String,
        call: impl Future<Output = Result<T, object_store::Error>> + Send,
    ) -> Result<T, PlaceError> {
        match tokio::time::timeout(self.call_timeout, call).await {
            // What a bucket's service answers may repeat who asked.
            Ok(done) => done.map_err(|source| match self.folder {
                Some(_) => self.refused(action, source),
                None => self.refused(action, Said::of(&source)),
            }),
            Err(_) => Err(self.silent(action)),
        }
    }

    /// Something that the folder's file system is asked, which may answer late or never: on a blocking thread.
    async fn ask<T: Send + 'static>(
        &self,
        action: String,
        ask: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, PlaceError> {
        match tokio::time::timeout(self.call_timeout, tokio::task::spawn_blocking(ask)).await {
            Ok(Ok(answer)) => answer.map_err(|error| self.refused(action, error)),
            Ok(Err(error)) => Err(self.refused(action, error)),
            Err(_) => Err(self.silent(action)),
        }
    }

    fn silent(&self, action: String) -> PlaceError {
        PlaceError::Timeout { place: self.shown.clone(), action, seconds: self.call_timeout.as_secs_f64() }
    }
}

#[async_trait]
impl Place for ObjectPlace {
    fn shown(&self) -> String {
        self.shown.clone()
    }

    async fn put_new(&self, name: &str, content: Bytes) -> Result<(), PlaceError> {
        let path = self.path(name)?;
        let put = self.objects.put_opts(&path, content.into(), PutMode::Create.into());
        self.call(format!("write `{name}`"), put).await.map(|_| ())
    }

    async fn get(&self, name: &str) -> Result<Bytes, PlaceError> {
        let path = self.path(name)?;
        let get = async { self.objects.get(&path).await?.bytes().await };
        self.call(format!("read `{name}`"), get).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, PlaceError> {
        if let Some(folder) = &self.folder {
            let folder = folder.join(prefix);
            if !self.ask(format!("list `{prefix}`"), move || folder.try_exists()).await? {
                return Ok(Vec::new());
            }
        }
        let path = self.path(prefix)?;
        let mut found = self.objects.list(Some(&path));
        let mut names = Vec::new();
        // Each page has its time, not the list.
        while let Some(object) = self.call(format!("list `{prefix}`"), found.try_next()).await? {
            names.extend(self.name(&object.location).map(|name| (name, object.size)));
        }
        Ok(names)
    }

    async fn remove(&self, name: &str) -> Result<(), PlaceError> {
        let path = self.path(name)?;
        let delete = async {
            match self.objects.delete(&path).await {
                Err(object_store::Error::NotFound { .. }) => Ok(()),
                done => done,
            }
        };
        self.call(format!("remove `{name}`"), delete).await?;
        let Some(folder) = self.folder.clone() else { return Ok(()) };
        let below = PathBuf::from(name);
        let tidy = move || {
            let above = below.ancestors().skip(1).filter(|above| above.components().next().is_some());
            // One that holds something stays, and so do those above it.
            let _ = above.map(|above| std::fs::remove_dir(folder.join(above))).find(Result::is_err);
            Ok(())
        };
        self.ask(format!("remove the folders of `{name}`"), tidy).await
    }

    async fn free_percent(&self) -> Result<Option<u8>, PlaceError> {
        let Some(folder) = self.folder.clone() else { return Ok(None) };
        let look = move || {
            // Until it is made, it is its parents' disk that counts.
            let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(&folder);
            rustix::fs::statvfs(there).map_err(std::io::Error::from)
        };
        let stat = self.ask("look at how much is free".to_owned(), look).await?;
        // What is kept for root is of no use to us.
        let percent = stat.f_bavail.saturating_mul(100) / stat.f_blocks.max(1);
        Ok(Some(u8::try_from(percent).unwrap_or(100)))
    }
}

#[cfg(test)]
mod tests {
    use sandbox::Objects;

    use super::*;
    use crate::stores::objects::BucketSettings;

    /// What every place promises; it must be empty.
    async fn keeps(place: &dyn Place) {
        assert_eq!(place.list("a").await.unwrap(), vec![]);
        place.put_new("a/b/1.tar", Bytes::from("one")).await.unwrap();
        assert!(place.put_new("a/b/1.tar", Bytes::from("two")).await.is_err());
        place.put_new("a/c/2.tar", Bytes::from("two")).await.unwrap();
        place.put_new("ab/3.tar", Bytes::from("three")).await.unwrap();
        assert_eq!(place.get("a/b/1.tar").await.unwrap(), "one");
        let mut names = place.list("a").await.unwrap();
        names.sort();
        assert_eq!(names, vec![("a/b/1.tar".to_owned(), 3), ("a/c/2.tar".to_owned(), 3)]);
        assert_eq!(place.list("a/b").await.unwrap().len(), 1);
        place.remove("a/b/1.tar").await.unwrap();
        place.remove("a/b/1.tar").await.unwrap();
        assert!(place.get("a/b/1.tar").await.is_err());
        assert_eq!(place.list("a").await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn s12_what_is_there_is_never_written_over_in_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let place = ObjectPlace::folder(folder.path().join("not yet/there"), Duration::from_secs(10));
        assert!(place.free_percent().await.unwrap().unwrap() <= 100);
        keeps(&place).await;
    }

    fn bucket(server: &Objects, secret_key: &str, call_timeout: Duration) -> ObjectPlace {
        let bucket = Bucket::new(&BucketSettings {
            url: server.url(),
            bucket: Objects::OTHER_BUCKET.to_owned(),
            region: Objects::REGION.to_owned(),
            access_key: Some(Objects::ACCESS_KEY.into()),
            secret_key: Some(secret_key.into()),
            call_timeout,
        });
        ObjectPlace::bucket(&bucket.unwrap())
    }

    #[tokio::test]
    async fn s12_what_is_there_is_never_written_over_in_a_bucket() {
        let server = Objects::start().await.unwrap();
        let place = bucket(&server, Objects::SECRET_KEY, Duration::from_secs(30));
        assert_eq!(place.free_percent().await.unwrap(), None);
        keeps(&place).await;
    }

    #[tokio::test]
    async fn a_bucket_that_refuses_or_is_silent_says_so_in_time() {
        let server = Objects::start().await.unwrap();
        let refused = bucket(&server, "wrong", Duration::from_secs(30)).put_new("a", Bytes::new()).await.unwrap_err();
        let refused = crate::errors::chain(&refused);
        assert!(refused.contains("could not write `a`: SignatureDoesNotMatch"), "{refused}");
        assert!(!refused.contains(Objects::ACCESS_KEY), "{refused}");
        server.pause().unwrap();
        let silent = bucket(&server, Objects::SECRET_KEY, Duration::from_millis(500)).list("a").await.unwrap_err();
        assert!(matches!(silent, PlaceError::Timeout { seconds: 0.5, .. }), "{silent}");
    }
}
