//! An S3 service of one's own, in memory.

use std::{
    ffi::OsString,
    ops::Deref,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use futures::TryStreamExt;
use object_store::{
    ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path as Name,
};

use crate::{
    python::python_part,
    server::{Kind, Server},
};

static KIND: Kind =
    Kind { name: "objects", ready: "ready to serve", port_taken: "already in use", stop: "TERM", last: "KILL" };

/// How long one request of a client may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The program, which runs on the Python that `scripts/setup` prepares.
const PROGRAM: &str = include_str!("objects.py");

/// What a service does with a write on the condition that an object is not there, or still is what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conditions {
    /// It writes only if the condition holds.
    Kept,
    /// It does not know conditions, and says so.
    Refused,
    /// It does not know conditions, and writes.
    Ignored,
}

impl Conditions {
    fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Refused => "refused",
            Self::Ignored => "ignored",
        }
    }
}

/// An S3 service, gone when the last clone of its handle is. It checks signatures and keeps everything in memory: what it holds
/// is lost with [`Server::restart`], but its empty buckets are there again.
#[derive(Clone)]
pub struct Objects {
    server: Server,
    scheme: &'static str,
}

impl Objects {
    /// A bucket that is there from the start.
    pub const BUCKET: &str = "campus";
    /// Another one.
    pub const OTHER_BUCKET: &str = "archives";
    /// One that keeps versions.
    pub const VERSIONED_BUCKET: &str = "versioned-campus";
    /// The region for signatures.
    pub const REGION: &str = "us-east-1";
    /// The id of the one key that may do everything.
    pub const ACCESS_KEY: &str = "course-gc-sandbox";
    /// Its secret.
    pub const SECRET_KEY: &str = "the-secret-of-the-sandbox";

    /// Starts a service.
    ///
    /// # Errors
    ///
    /// When its Python is not installed or it does not start; the message ends with its log.
    pub async fn start() -> Result<Self> {
        Self::start_by("http", Conditions::Kept).await
    }

    /// Starts a service that does this with conditions.
    ///
    /// # Errors
    ///
    /// As [`Objects::start`].
    pub async fn start_with(conditions: Conditions) -> Result<Self> {
        Self::start_by("http", conditions).await
    }

    /// Starts a service that speaks TLS, with the certificate [`Objects::certificate`].
    ///
    /// # Errors
    ///
    /// As [`Objects::start`].
    pub async fn start_with_tls() -> Result<Self> {
        Self::start_by("https", Conditions::Kept).await
    }

    async fn start_by(scheme: &'static str, conditions: Conditions) -> Result<Self> {
        let command = move |folder: &Path, port| command(folder, port, (scheme, conditions));
        Ok(Self { server: Server::start(&KIND, |_| Ok(()), command).await?, scheme })
    }

    /// The address of the service, without a bucket.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.server.port())
    }

    /// Where the certificate lies that a service with TLS made for itself.
    pub fn certificate(&self) -> PathBuf {
        self.server.folder().join("certificate.pem")
    }
}

/// A client for the bucket [`Objects::BUCKET`] of a service, as the platform's own programs would hold one.
#[derive(Clone)]
pub struct Bucket(AmazonS3);

impl Bucket {
    /// A client that connects when it is first used.
    ///
    /// # Errors
    ///
    /// When the address is none.
    pub fn new(url: &str) -> Result<Self> {
        // Of rustls' several cryptographies one must be named once in a process; where that was done before, it stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = AmazonS3Builder::new()
            .with_endpoint(url)
            .with_bucket_name(Objects::BUCKET)
            .with_region(Objects::REGION)
            .with_access_key_id(Objects::ACCESS_KEY)
            .with_secret_access_key(Objects::SECRET_KEY)
            .with_client_options(ClientOptions::new().with_timeout(LIMIT).with_allow_http(true))
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() });
        Ok(Self(client.build()?))
    }

    /// Writes an object.
    ///
    /// # Errors
    ///
    /// When the service does not take it.
    pub async fn put(&self, name: String, content: Vec<u8>) -> Result<()> {
        self.0.put(&Name::parse(&name)?, content.into()).await.with_context(|| format!("writing {name}"))?;
        Ok(())
    }

    /// The names of all objects.
    ///
    /// # Errors
    ///
    /// When the bucket cannot be listed.
    pub async fn names(&self) -> Result<Vec<String>> {
        Ok(self.0.list(None).map_ok(|object| object.location.to_string()).try_collect().await?)
    }

    /// An object's bytes.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub async fn get(&self, name: &str) -> Result<Vec<u8>> {
        let answer = self.0.get(&Name::parse(name)?).await.with_context(|| format!("reading {name}"))?;
        Ok(answer.bytes().await?.into())
    }
}

impl Deref for Objects {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

fn command(folder: &Path, port: u16, (scheme, conditions): (&str, Conditions)) -> Result<Vec<OsString>> {
    let mut command =
        vec![python_part("python")?.into(), "-c".into(), PROGRAM.into(), folder.into(), port.to_string().into()];
    let told = [scheme, Objects::ACCESS_KEY, Objects::SECRET_KEY, conditions.as_str()];
    command.extend(told.map(OsString::from));
    command.extend([Objects::BUCKET, Objects::OTHER_BUCKET, Objects::VERSIONED_BUCKET].map(OsString::from));
    Ok(command)
}
