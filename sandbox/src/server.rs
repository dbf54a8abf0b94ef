//! One server process: started, stopped, paused, and gone when its handle is.
//!
//! A small shell program (`supervisor.sh`) is the server's parent. It holds the other end of a pipe whose only writer is
//! this process, so the server ends with the handle, with a panic and with SIGKILL alike. A parent-death signal was
//! rejected: it follows the thread that started the server, not the process, and setting it needs `unsafe`.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process},
};

use crate::{ports::free_port, program::program};

const SUPERVISOR: &str = include_str!("supervisor.sh");
const LOOK_EVERY: Duration = Duration::from_millis(3);
const READY_WITHIN: Duration = Duration::from_secs(30);
const PORT_ATTEMPTS: usize = 5;

/// What makes one kind of server different from another.
pub(crate) struct Kind {
    /// For folders and messages.
    pub name: &'static str,
    /// What the server's log says once it answers.
    pub ready: &'static str,
    /// What the server's log says when another process was faster with the port.
    pub port_taken: &'static str,
    /// The signal for an orderly stop that keeps the data.
    pub stop: &'static str,
    /// The signal that ends the server when its data is no longer needed.
    pub last: &'static str,
}

/// A server process in a temporary folder of its own. Clones share it; it ends with the last one, and with this process.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    kind: &'static Kind,
    port: u16,
    folder: PathBuf,
    state: Mutex<State>,
}

struct State {
    supervisor: Child,
    /// `None` only while dropping: closing it is the order to end.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    server: Option<Pid>,
}

impl Server {
    /// Prepares a folder, starts the server on a free port and waits until it answers.
    ///
    /// `prepare` fills the new, empty folder; `command` is the command line for a folder and a port.
    ///
    /// # Errors
    ///
    /// When the server cannot be started or is not ready in time; the message ends with its log.
    pub(crate) async fn start(
        kind: &'static Kind,
        prepare: impl Fn(&Path) -> Result<()> + Send + 'static,
        command: impl Fn(&Path, u16) -> Result<Vec<OsString>> + Send + 'static,
    ) -> Result<Self> {
        blocking(move || {
            let mut failure = None;
            for _ in 0..PORT_ATTEMPTS {
                let port = free_port()?;
                let folder = tempfile::Builder::new().prefix(&format!("sandbox-{}-", kind.name)).tempdir()?;
                prepare(folder.path())?;
                let command = command(folder.path(), port)?;
                let server = Self::supervise(kind, port, folder.keep(), command)?;
                match server.0.launch() {
                    Ok(()) => return Ok(server),
                    Err(error) if format!("{error:#}").contains(kind.port_taken) => failure = Some(error),
                    Err(error) => return Err(error),
                }
            }
            Err(failure.context("no attempt was made")?)
        })
        .await
    }

    fn supervise(kind: &'static Kind, port: u16, folder: PathBuf, command: Vec<OsString>) -> Result<Self> {
        let mut supervisor = Command::new(program("sh")?)
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg(&folder)
            .arg(kind.last)
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // What is sent to the test's group, from a terminal or a test runner, must not end the supervisor first.
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting the supervisor of {}", kind.name))?;
        let orders = supervisor.stdin.take();
        let answers = BufReader::new(supervisor.stdout.take().context("the supervisor has no output")?);
        let state = Mutex::new(State { supervisor, orders, answers, server: None });
        Ok(Self(Arc::new(Inner { kind, port, folder, state })))
    }

    /// The port on 127.0.0.1, which stays the same after [`Server::restart`].
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// The server's own folder, with its `log`.
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// The process id of the server itself.
    ///
    /// # Errors
    ///
    /// When the server is stopped.
    pub fn pid(&self) -> Result<i32> {
        Ok(self.process()?.as_raw_pid())
    }

    fn process(&self) -> Result<Pid> {
        self.0.lock().server.with_context(|| format!("{} is stopped", self.0.kind.name))
    }

    /// Stops the server in good order and waits until it is gone. Sessions are cut, the data stays.
    /// Does nothing when it is stopped.
    ///
    /// # Errors
    ///
    /// When its supervisor is gone.
    pub async fn stop(&self) -> Result<()> {
        self.end(self.0.kind.stop).await
    }

    /// Ends the server as a crash would (SIGKILL), and waits until it and its children are gone. The data stays.
    ///
    /// # Errors
    ///
    /// When its supervisor is gone.
    pub async fn crash(&self) -> Result<()> {
        self.end("KILL").await
    }

    async fn end(&self, signal: &'static str) -> Result<()> {
        if self.0.lock().server.is_some() {
            // A paused server would not act on the signal.
            self.resume()?;
        }
        let inner = Arc::clone(&self.0);
        blocking(move || {
            let mut state = inner.lock();
            let Some(server) = state.server.take() else { return Ok(()) };
            let mut left = children(server);
            state.order(&format!("stop {signal}"))?;
            // Postgres' children outlive a killed parent for a moment, and no other starts on the data meanwhile.
            for _ in 0..READY_WITHIN.as_millis() / LOOK_EVERY.as_millis() {
                left.retain(|child| !has_ended(*child));
                if left.is_empty() {
                    return Ok(());
                }
                std::thread::sleep(LOOK_EVERY);
            }
            bail!("{} ended, but {} of its processes did not", inner.kind.name, left.len())
        })
        .await
    }

    /// Stops the server if it runs, and starts it on the same port with the same data.
    ///
    /// # Errors
    ///
    /// When it does not start; the message ends with its log.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        let inner = Arc::clone(&self.0);
        blocking(move || inner.launch()).await
    }

    /// Freezes the server and its children: connections stay open and nothing answers.
    ///
    /// # Errors
    ///
    /// When it is stopped.
    pub fn pause(&self) -> Result<()> {
        let server = self.process()?;
        // The parent first, so that no further child comes into being.
        kill_process(server, Signal::STOP)?;
        children(server).into_iter().try_for_each(|child| Ok(signal(child, Signal::STOP)?))
    }

    /// Lets a paused server go on.
    ///
    /// # Errors
    ///
    /// When it is stopped.
    pub fn resume(&self) -> Result<()> {
        let server = self.process()?;
        children(server).into_iter().try_for_each(|child| signal(child, Signal::CONT))?;
        Ok(kill_process(server, Signal::CONT)?)
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the server and returns when its log says that it is ready.
    fn launch(&self) -> Result<()> {
        let log = self.folder.join("log");
        // The last start's log must not be taken for this one's.
        fs::write(&log, "")?;
        let mut state = self.lock();
        let answer = state.order("start")?;
        let server = Pid::from_raw(answer.parse()?).context("the supervisor gave no process id")?;
        state.server = Some(server);
        drop(state);

        for _ in 0..READY_WITHIN.as_millis() / LOOK_EVERY.as_millis() {
            let ended = has_ended(server);
            let said = fs::read(&log)?;
            let said = String::from_utf8_lossy(&said);
            if said.contains(self.kind.ready) {
                return Ok(());
            }
            if ended {
                bail!("{} ended at once; its log:\n{said}", self.kind.name);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        bail!(
            "{} is not ready after {READY_WITHIN:?}; its log:\n{}",
            self.kind.name,
            String::from_utf8_lossy(&fs::read(&log)?)
        )
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(state.orders.take());
        // The supervisor ends by itself; waiting keeps it from staying behind as a zombie, and makes sure that the
        // port and the folder are free when the handle is gone. There is nobody to tell a failure to.
        let _ = state.supervisor.wait();
    }
}

impl State {
    /// Gives the supervisor an order and returns its answer.
    fn order(&mut self, order: &str) -> Result<String> {
        let orders = self.orders.as_mut().context("the supervisor is gone")?;
        writeln!(orders, "{order}")?;
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            bail!("the supervisor ended");
        }
        Ok(answer.trim_end().to_owned())
    }
}

/// Runs blocking work beside the runtime. The pipes are blocking ones on purpose: a server that several tests share must
/// not depend on the runtime of the test that started it.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("the blocking task panicked")?
}

/// State and parent of a process, from `/proc/{pid}/stat`: `pid (name) state parent …`.
fn state_and_parent(pid: &str) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Sends a signal to a process that may have ended since it was listed.
fn signal(child: Pid, signal: Signal) -> rustix::io::Result<()> {
    match kill_process(child, signal) {
        Err(Errno::SRCH) => Ok(()),
        sent => sent,
    }
}

fn has_ended(pid: Pid) -> bool {
    state_and_parent(&pid.to_string()).is_none_or(|(state, _)| state == 'Z')
}

fn children(of: Pid) -> Vec<Pid> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let pid = Pid::from_raw(name.parse().ok()?)?;
            let (state, parent) = state_and_parent(&name)?;
            (parent == of.as_raw_pid() && state != 'Z').then_some(pid)
        })
        .collect()
}
