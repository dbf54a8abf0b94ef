//! Starts the server's binary and talks to it.

use std::future::Future;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use qdrant_client::{Qdrant, QdrantError};
use tempfile::TempDir;
use tonic::Code;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server with a folder of its own. Killed when dropped.
pub struct Sandbox {
    command: Command,
    child: Child,
    stdin: Option<ChildStdin>,
    address: String,
    data: TempDir,
    key: Option<String>,
}

impl Sandbox {
    /// An empty server, open to all.
    pub fn start() -> Self {
        Self::start_with_key(None)
    }

    /// An empty server that asks for `key`.
    pub fn start_with_key(key: Option<&str>) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut command = command(data.path());
        if let Some(key) = key {
            command.env("QDRANT_SANDBOX_API_KEY", key);
        }
        Self::spawn(command, data, key)
    }

    /// An empty server that reads `key` in `file`.
    pub fn start_with_key_file(file: &Path, key: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut command = command(data.path());
        command.arg("--api-key-file").arg(file);
        Self::spawn(command, data, Some(key))
    }

    fn spawn(mut command: Command, data: TempDir, key: Option<&str>) -> Self {
        let (child, stdin, address) = start(&mut command);
        Self { command, child, stdin: Some(stdin), address, data, key: key.map(str::to_owned) }
    }

    /// Kills the server as `kill -9` does, and starts it again on the same folder.
    pub fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.restart();
    }

    /// Ends the server's standard input, waits until it has exited, and starts it again.
    pub fn stop_and_restart(&mut self) {
        self.end_stdin();
        self.wait_until_exited();
        self.restart();
    }

    /// Closes the pipe that is the server's standard input, as the death of a parent does.
    pub fn end_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").arg(pid).status().unwrap();
        assert!(status.success());
    }

    /// Waits until the process has ended, and returns whether it reported success.
    pub fn wait_until_exited(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            assert!(Instant::now() < deadline, "the server did not exit");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The folder of its data.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// A client with the right key.
    pub fn client(&self) -> Qdrant {
        self.client_with_key(self.key.as_deref())
    }

    /// A client with that key.
    pub fn client_with_key(&self, key: Option<&str>) -> Qdrant {
        let mut config = Qdrant::from_url(&self.address).timeout(PATIENCE).skip_compatibility_check();
        if let Some(key) = key {
            config = config.api_key(key);
        }
        config.build().unwrap()
    }

    fn restart(&mut self) {
        let (child, stdin, address) = start(&mut self.command);
        (self.child, self.stdin, self.address) = (child, Some(stdin), address);
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // It may have exited already, as some tests want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command that starts a server on `data` and a free port.
pub fn command(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qdrant-sandbox"));
    command
        .args(["--port", "0", "--die-with-stdin", "--data"])
        .arg(data)
        .env_remove("QDRANT_SANDBOX_API_KEY")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

fn start(command: &mut Command) -> (Child, ChildStdin, String) {
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address =
        line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("the server did not start: {line:?}"));
    let stdin = child.stdin.take().unwrap();
    (child, stdin, format!("http://{address}"))
}

/// The code and the text of an answer that refuses.
pub fn code_and_text(error: QdrantError) -> (Code, String) {
    match error {
        QdrantError::ResponseError { status } => (status.code(), status.message().to_owned()),
        other => panic!("not an answer of the server: {other}"),
    }
}

/// The answer refuses with that code and a text that contains `part`.
#[track_caller]
pub fn assert_refused<T: std::fmt::Debug>(result: Result<T, QdrantError>, code: Code, part: &str) {
    let (found, text) = code_and_text(result.unwrap_err());
    assert_eq!(found, code, "{text}");
    assert!(text.contains(part), "{text:?} does not contain {part:?}");
}

/// Asks until it is so, or too much time has passed.
pub async fn eventually<F: Future<Output = bool>>(claim: &str, mut is_so: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "in vain: {claim}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
