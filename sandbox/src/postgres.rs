//! Postgres: a server of one's own, and fresh databases.

use std::{
    ffi::OsString,
    fs,
    ops::Deref,
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, postgres::PgConnectOptions};
use tokio::sync::OnceCell;
use url::Url;
use uuid::Uuid;

use crate::{
    cleanup::finish,
    program::program,
    server::{Kind, Server},
};

const KIND: Kind = Kind {
    name: "postgres",
    ready: "database system is ready to accept connections",
    port_taken: "could not create any TCP/IP sockets",
    stop: "INT",
    // With SIGKILL its System V shared memory would stay.
    last: "QUIT",
};

static PRIMARY: Kind = KIND;

static STANDBY: Kind =
    Kind { ready: "database system is ready to accept read-only connections", name: "standby", ..KIND };

/// Postgres refuses to run as root; root runs it as `nobody`, whose ids are these on every Debian.
const NOBODY: u32 = 65_534;

static SHARED: OnceCell<Postgres> = OnceCell::const_new();

/// A Postgres server, gone when the last clone of its handle is. Clients are trusted; there is no durable write
/// (`fsync` is off), yet nothing is lost when only the server dies.
#[derive(Clone)]
pub struct Postgres(Server);

impl Postgres {
    /// Starts a server on a copy of an initialised data folder.
    ///
    /// # Errors
    ///
    /// When Postgres is not installed or does not start; the message ends with its log.
    pub async fn start() -> Result<Self> {
        Server::start(&PRIMARY, copy_initialised, command).await.map(Self)
    }

    /// The one server of this process that its tests share. It ends with the process.
    ///
    /// # Errors
    ///
    /// As [`Postgres::start`].
    pub async fn shared() -> Result<&'static Self> {
        SHARED.get_or_try_init(Self::start).await
    }

    /// Starts a streaming standby of this server, from a copy of it as it is now.
    ///
    /// # Errors
    ///
    /// When this server is stopped, or the standby does not start; the message ends with its log.
    pub async fn standby(&self) -> Result<Self> {
        let port = self.0.port();
        Server::start(&STANDBY, move |folder| copy_running(folder, port), command).await.map(Self)
    }

    /// Makes a cold copy of all data: stops the server, copies, and starts it again.
    ///
    /// # Errors
    ///
    /// When the copy cannot be made, or the server does not start again.
    pub async fn back_up(&self, to: &Path) -> Result<()> {
        self.0.stop().await?;
        copy(&self.0.folder().join("data"), to)?;
        self.0.restart().await
    }

    /// Replaces all data by such a copy.
    ///
    /// # Errors
    ///
    /// As [`Postgres::back_up`].
    pub async fn restore(&self, from: &Path) -> Result<()> {
        self.0.stop().await?;
        let data = self.0.folder().join("data");
        std::fs::remove_dir_all(&data)?;
        copy(from, &data)?;
        self.0.restart().await
    }

    /// Starts another server on such a copy: a clone that knows all that the first one knew.
    ///
    /// # Errors
    ///
    /// As [`Postgres::start`].
    pub async fn clone_of(copy_of_data: &Path) -> Result<Self> {
        let from = copy_of_data.to_owned();
        let prepare = move |folder: &Path| {
            hand_over(folder)?;
            copy(&from, &folder.join("data"))
        };
        Server::start(&PRIMARY, prepare, command).await.map(Self)
    }

    /// The superuser's URL of the database `postgres`.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// The superuser's URL of a database by name.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.0.port())
    }

    /// Creates an empty database and returns its superuser's URL.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached or the database exists.
    pub async fn create_database(&self, name: &str) -> Result<String> {
        execute(&self.url(), format!("CREATE DATABASE \"{name}\"")).await?;
        Ok(self.url_of(name))
    }
}

impl Deref for Postgres {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

/// A fresh, empty database: on the server that `DATABASE_URL` names when that is set, where it is dropped with this
/// handle, on the shared server of this process otherwise.
pub struct Database {
    url: String,
    /// The URL that was given, on whose server this database is dropped.
    given: Option<String>,
}

impl Database {
    /// Creates the database.
    ///
    /// # Errors
    ///
    /// When the server cannot be started or reached, or its user may not create databases.
    pub async fn create() -> Result<Self> {
        let name = format!("course_gc_test_{}", Uuid::new_v4().simple());
        match std::env::var("DATABASE_URL") {
            Ok(given) => Self::create_at(given, &name).await,
            Err(_) => {
                let url = Postgres::shared().await?.create_database(&name).await?;
                Ok(Self { url, given: None })
            }
        }
    }

    async fn create_at(given: String, name: &str) -> Result<Self> {
        let mut url: Url = given.parse().context("`DATABASE_URL` is no URL")?;
        execute(&given, format!("CREATE DATABASE \"{name}\"")).await?;
        url.set_path(name);
        Ok(Self { url: url.into(), given: Some(given) })
    }

    /// The database's URL, of a user who may do everything in it. On a given server it may hold a password.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Some(given) = &self.given else { return };
        let name = self.url.rsplit('/').next().and_then(|rest| rest.split('?').next()).unwrap_or_default();
        finish(&format!("database {name}"), || {
            execute(given, format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)"))
        });
    }
}

/// Runs one statement that names what this module named.
async fn execute(url: &str, statement: String) -> Result<()> {
    let options: PgConnectOptions = url.parse()?;
    let mut connection = options.disable_statement_logging().connect().await?;
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
    Ok(connection.close().await?)
}

fn command(folder: &Path, port: u16) -> Result<Vec<OsString>> {
    let mut command = unprivileged()?;
    command.extend([program("postgres")?.into(), "-D".into(), folder.join("data").into()]);
    for setting in [
        "listen_addresses=127.0.0.1",
        &format!("port={port}"),
        "unix_socket_directories=",
        "fsync=off",
        "full_page_writes=off",
        "max_connections=200",
    ] {
        command.extend(["-c".into(), setting.into()]);
    }
    Ok(command)
}

/// What goes before a command that refuses root: nothing, or for root the change to `nobody`.
pub(crate) fn unprivileged() -> Result<Vec<OsString>> {
    if !rustix::process::getuid().is_root() {
        return Ok(Vec::new());
    }
    let ids = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()];
    Ok(std::iter::once(program("setpriv")?.into()).chain(ids.map(OsString::from)).collect())
}

fn owner() -> u32 {
    let uid = rustix::process::getuid();
    if uid.is_root() { NOBODY } else { uid.as_raw() }
}

/// Fills a server's folder. Copying an initialised data folder is much faster than `initdb`.
fn copy_initialised(folder: &Path) -> Result<()> {
    let initialised = initialised()?;
    hand_over(folder)?;
    copy(&initialised, &folder.join("data"))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new(program("cp")?);
    run(command.arg("-a").arg(from).arg(to))
}

/// Fills a standby's folder from the running server on `port`.
fn copy_running(folder: &Path, port: u16) -> Result<()> {
    hand_over(folder)?;
    let mut line = unprivileged()?;
    line.push(program("pg_basebackup")?.into());
    let [program, arguments @ ..] = line.as_slice() else { bail!("no command") };
    run(Command::new(program)
        .args(arguments)
        .args(["--host=127.0.0.1", &format!("--port={port}"), "--username=postgres", "--no-password"])
        .args(["--no-sync", "--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf", "--pgdata"])
        .arg(folder.join("data")))
}

/// The initialised data folder of this Postgres version and user, made when it is not there yet. It lies in the
/// temporary folder and not beside the build, because `nobody` cannot reach into root's home.
fn initialised() -> Result<PathBuf> {
    let initdb = program("initdb")?;
    let version = Command::new(&initdb).arg("--version").output().context("running `initdb --version`")?;
    let version = String::from_utf8_lossy(&version.stdout);
    let version = version.split_whitespace().nth(2).context("`initdb --version` gave no version")?;

    let temporary = std::env::temp_dir();
    let finished = temporary.join(format!("course-gc-sandbox-postgres-{version}-{}", owner()));
    if !finished.exists() {
        let folder = tempfile::Builder::new().prefix("course-gc-sandbox-initdb-").tempdir_in(&temporary)?;
        hand_over(folder.path())?;
        let data = folder.path().join("data");
        let mut line = unprivileged()?;
        line.push(initdb.into());
        let [program, arguments @ ..] = line.as_slice() else { bail!("no command") };
        run(Command::new(program)
            .args(arguments)
            .args(["--no-sync", "--no-instructions", "--username=postgres", "--auth=trust"])
            .args(["--encoding=UTF8", "--locale=C", "--wal-segsize=1", "--pgdata"])
            .arg(&data))?;
        // The rename is atomic. It fails when another process was faster, whose folder is as good.
        if let Err(error) = fs::rename(&data, &finished) {
            ensure!(finished.exists(), "moving the initialised data folder to {}: {error}", finished.display());
        }
    }
    // Names in the temporary folder can be guessed: another user's folder is not used.
    let actual = fs::metadata(&finished)?.uid();
    ensure!(actual == owner(), "{} belongs to user {actual}: remove it", finished.display());
    Ok(finished)
}

/// Gives a server's folder to whom it runs as.
pub(crate) fn hand_over(folder: &Path) -> Result<()> {
    if rustix::process::getuid().is_root() {
        chown(folder, Some(NOBODY), Some(NOBODY))?;
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().display().to_string();
    let output = command.output().with_context(|| format!("running {name}"))?;
    ensure!(output.status.success(), "{name} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
