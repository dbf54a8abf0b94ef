//! A server's bad days, on demand: a TCP proxy whose behaviour a test switches at any moment.
//!
//! It runs on a thread of its own, so that a test that blocks does not hold it up, and ends with its handle. A switch can
//! also wait for something that a client sends: then it happens before those bytes are passed on, which puts a fault on
//! exactly one question. What is encrypted, or compressed as HTTP/2's headers are, cannot be waited for.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{oneshot, watch},
    task::JoinSet,
};

use crate::ports::free_port;

/// What is waited for may arrive in pieces: so many bytes of the earlier ones are remembered.
const REMEMBERED: usize = 256;
const CHUNK: usize = 64 * 1024;
const BACKLOG: u32 = 128;
const PORT_ATTEMPTS: usize = 5;

/// How a [`Proxy`] treats its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// As if it were not there.
    Pass,
    /// Nobody is there: connections are refused, and those that are open are closed.
    Refuse,
    /// A black hole: connections are accepted and stay open, and nothing that is sent arrives, on either side.
    Silent,
    /// Requests arrive at once, each answer so much later.
    Delay(Duration),
    /// Requests arrive; of their answers, each connection sees so many bytes and then its end.
    Cut(usize),
    /// Requests arrive; their answers are replaced by as many bytes that mean nothing.
    Garbage,
    /// The connections that are open are closed; new ones are treated well.
    Drop,
}

impl Behaviour {
    /// Whether the connections that are open are closed when it begins.
    fn begins_with_an_end(self) -> bool {
        matches!(self, Self::Refuse | Self::Drop)
    }

    /// Whether connections that lived through it lack something, and are closed when it is over.
    fn damages(self) -> bool {
        matches!(self, Self::Silent | Self::Cut(_) | Self::Garbage)
    }
}

/// A proxy on a free port of 127.0.0.1 before a server on another one, gone with this handle.
pub struct Proxy {
    port: u16,
    switch: Arc<Switch>,
    /// Ends the thread when it is dropped.
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy)]
struct State {
    behaviour: Behaviour,
    /// Counts the switches.
    switched: u64,
    /// Connections that were accepted before so many closings are to be closed.
    closings: u64,
}

struct Switch {
    state: watch::Sender<State>,
    awaited: Mutex<Option<Awaited>>,
    /// Connections whose client waits for an answer, and the most that there were.
    waiting: AtomicUsize,
    most_waiting: AtomicUsize,
}

/// Whether the client of a connection waits for an answer.
struct Waiting<'a> {
    switch: &'a Switch,
    waits: AtomicBool,
}

struct Awaited {
    needles: VecDeque<Vec<u8>>,
    then: Behaviour,
}

impl Proxy {
    /// Starts a proxy before the server on a port of 127.0.0.1; the server need not be there yet.
    ///
    /// # Errors
    ///
    /// When no port can be had.
    pub fn before(server: u16) -> Result<Self> {
        let first = State { behaviour: Behaviour::Pass, switched: 0, closings: 0 };
        let switch = Arc::new(Switch {
            state: watch::Sender::new(first),
            awaited: Mutex::new(None),
            waiting: AtomicUsize::new(0),
            most_waiting: AtomicUsize::new(0),
        });
        let (end, ended) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        let switched = Arc::clone(&switch);
        let thread = std::thread::Builder::new().name("proxy".to_owned()).spawn(move || {
            let run = || -> Result<()> {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async {
                    let (port, _reserved, listener) = listen()?;
                    tell.send(Ok(port))?;
                    tokio::select! {
                        () = serve(port, server, &switched, listener) => {}
                        _ = ended => {}
                    }
                    Ok(())
                })
            };
            if let Err(error) = run() {
                // Nobody listens if the handle is gone already.
                let _ = tell.send(Err(error));
            }
        })?;
        let port = told.recv()??;
        Ok(Self { port, switch, end: Some(end), thread: Some(thread) })
    }

    /// The port on 127.0.0.1 where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Behaves so from now on, and waits for nothing any more.
    pub fn switch(&self, behaviour: Behaviour) {
        *self.switch.lock() = None;
        self.switch.to(behaviour);
    }

    /// Behaves so as soon as clients have sent all of these texts, one after the other on whichever connections, and
    /// before the last one is passed on. Empty: at once.
    pub fn switch_after(&self, needles: &[&[u8]], then: Behaviour) {
        if needles.is_empty() {
            return self.switch(then);
        }
        let needles = needles.iter().map(|needle| needle.to_vec()).collect();
        *self.switch.lock() = Some(Awaited { needles, then });
    }

    /// On how many connections clients waited for an answer at the same time, at most.
    pub fn most_waiting(&self) -> usize {
        self.switch.most_waiting.load(Ordering::SeqCst)
    }

    /// Whether nothing is waited for (any more).
    pub fn has_switched(&self) -> bool {
        self.switch.lock().is_none()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // So that the port is free when the handle is gone. There is nobody to tell a failure to.
            let _ = thread.join();
        }
    }
}

impl Switch {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Awaited>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn to(&self, behaviour: Behaviour) {
        self.state.send_modify(|state| {
            let closes = behaviour.begins_with_an_end() || state.behaviour.damages();
            state.closings += u64::from(closes);
            state.switched += 1;
            state.behaviour = behaviour;
        });
    }

    /// Looks at what a client sends; `seen` is what it sent before, as far as it was not found yet.
    fn look(&self, seen: &mut Vec<u8>, chunk: &[u8]) {
        seen.extend_from_slice(chunk);
        let mut awaited = self.lock();
        let mut from = 0;
        while let Some(needle) = awaited.as_ref().and_then(|awaited| awaited.needles.front()) {
            let Some(at) = seen[from..].windows(needle.len()).position(|window| window == needle) else { break };
            from += at + needle.len();
            if let Some(awaited) = awaited.as_mut() {
                awaited.needles.pop_front();
            }
        }
        seen.drain(..from.max(seen.len().saturating_sub(REMEMBERED)));
        let then = awaited.as_ref().filter(|awaited| awaited.needles.is_empty()).map(|awaited| awaited.then);
        if let Some(then) = then {
            *awaited = None;
            drop(awaited);
            self.to(then);
        }
    }
}

impl Waiting<'_> {
    fn asked(&self) {
        if !self.waits.swap(true, Ordering::SeqCst) {
            let waiting = self.switch.waiting.fetch_add(1, Ordering::SeqCst) + 1;
            self.switch.most_waiting.fetch_max(waiting, Ordering::SeqCst);
        }
    }

    fn answered(&self) {
        if self.waits.swap(false, Ordering::SeqCst) {
            self.switch.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.answered();
    }
}

/// A port with a listener, and a socket that keeps the port while nobody listens.
fn listen() -> Result<(u16, TcpSocket, TcpListener)> {
    let mut failure = None;
    for _ in 0..PORT_ATTEMPTS {
        let port = free_port()?;
        match socket(port).and_then(|reserved| Ok((reserved, socket(port)?.listen(BACKLOG)?))) {
            Ok((reserved, listener)) => return Ok((port, reserved, listener)),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.context("no attempt was made")?)
}

fn socket(port: u16) -> Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // With it our own sockets share the port; with `SO_REUSEADDR` everybody's would, as long as nobody listens.
    socket.set_reuseport(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    Ok(socket)
}

/// Accepts clients while it should, until it is dropped, and all connections with it.
async fn serve(port: u16, server: u16, switch: &Arc<Switch>, listener: TcpListener) {
    let mut state = switch.state.subscribe();
    let mut clients = JoinSet::new();
    let mut listener = Some(listener);
    loop {
        let is_there = state.borrow_and_update().behaviour != Behaviour::Refuse;
        if !is_there {
            listener = None;
        } else if listener.is_none() {
            listener = socket(port).and_then(|socket| Ok(socket.listen(BACKLOG)?)).ok();
        }
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            accepted = accepted => if let Ok((client, _)) = accepted {
                clients.spawn(connection(client, server, Arc::clone(switch)));
            },
            Some(_) = clients.join_next() => {}
        }
    }
}

async fn connection(client: TcpStream, server: u16, switch: Arc<Switch>) {
    let born = switch.state.borrow().closings;
    let mut state = switch.state.subscribe();
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else { return };
    // Whoever measures time must not measure Nagle's algorithm.
    let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let waiting = Waiting { switch: &switch, waits: AtomicBool::new(false) };
    tokio::select! {
        // A switch takes effect before anything else passes.
        biased;
        _ = state.wait_for(|state| state.closings > born) => {}
        _ = requests(from_client, to_server, &waiting) => {}
        _ = answers(from_server, to_client, &waiting) => {}
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, waiting: &Waiting<'_>) -> std::io::Result<()> {
    let switch = waiting.switch;
    let mut chunk = vec![0; CHUNK];
    let mut seen = Vec::new();
    loop {
        let length = from.read(&mut chunk).await?;
        if length == 0 {
            return Ok(());
        }
        waiting.asked();
        let before = switch.state.borrow().closings;
        switch.look(&mut seen, &chunk[..length]);
        let state = *switch.state.borrow();
        if state.closings > before {
            // These bytes are what the connection is closed for.
            return Ok(());
        }
        if state.behaviour != Behaviour::Silent {
            to.write_all(&chunk[..length]).await?;
        }
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, waiting: &Waiting<'_>) -> std::io::Result<()> {
    let switch = waiting.switch;
    let mut chunk = vec![0; CHUNK];
    let (mut since, mut passed) = (0, 0);
    loop {
        let length = from.read(&mut chunk).await?;
        if length == 0 {
            return Ok(());
        }
        let State { behaviour, switched, .. } = *switch.state.borrow();
        if switched != since {
            (since, passed) = (switched, 0);
        }
        if let Behaviour::Delay(by) = behaviour {
            tokio::time::sleep(by).await;
        }
        // Before it is passed on: whoever has it may ask again at once.
        waiting.answered();
        match behaviour {
            Behaviour::Pass | Behaviour::Drop | Behaviour::Delay(_) => to.write_all(&chunk[..length]).await?,
            Behaviour::Refuse => return Ok(()),
            Behaviour::Silent => {}
            Behaviour::Cut(after) => {
                let rest = length.min(after - passed);
                to.write_all(&chunk[..rest]).await?;
                passed += rest;
                if passed == after {
                    return Ok(());
                }
            }
            Behaviour::Garbage => {
                let nonsense: Vec<u8> = b"-?! \0\xff\xfe\r\n".iter().copied().cycle().take(length).collect();
                to.write_all(&nonsense).await?;
            }
        }
    }
}
