//! Another S3 service of one's own: rclone's, on a folder.

use std::{ffi::OsString, fs, ops::Deref, path::Path};

use anyhow::Result;

use crate::{
    objects::Objects,
    python::python_part,
    server::{Kind, Server},
};

static KIND: Kind = Kind {
    name: "rclone",
    ready: "Starting s3 server on",
    port_taken: "address already in use",
    stop: "TERM",
    last: "KILL",
};

/// An S3 service with the bucket [`Objects::BUCKET`] and the key of [`Objects`], gone when the last clone of its handle is. It knows no
/// conditions of writes, and passes over them.
#[derive(Clone)]
pub struct Rclone(Server);

impl Rclone {
    /// Starts a service.
    ///
    /// # Errors
    ///
    /// When it is not installed or does not start; the message ends with its log.
    pub async fn start() -> Result<Self> {
        let prepare = |folder: &Path| Ok(fs::create_dir_all(folder.join("root").join(Objects::BUCKET))?);
        Ok(Self(Server::start(&KIND, prepare, command).await?))
    }

    /// The address of the service, without a bucket.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.0.port())
    }
}

impl Deref for Rclone {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

fn command(folder: &Path, port: u16) -> Result<Vec<OsString>> {
    let mut command: Vec<OsString> = vec![python_part("rclone")?.into()];
    command.extend(["serve", "s3", "--config", ""].map(OsString::from));
    command.extend(["--addr".into(), format!("127.0.0.1:{port}").into()]);
    command.extend(["--auth-key".into(), format!("{},{}", Objects::ACCESS_KEY, Objects::SECRET_KEY).into()]);
    command.push(folder.join("root").into());
    Ok(command)
}
