//! A test server over Qdrant's engine.
//!
//! It speaks Qdrant's gRPC to an unmodified `qdrant-client` and keeps its points in `qdrant-edge`,
//! Qdrant's own engine in process: filters, counts, facets, payload indexes, vectors and the
//! write-ahead log are the real ones. It exists because no package registry carries a Qdrant
//! server, and it is no Qdrant server: what only a server does is imitated here, after the real
//! one's answers.
//!
//! Imitated: collections with their metadata, aliases, the API key, strict mode's refusals, the
//! statuses of `wait` and `timeout`, the texts and codes of errors.
//!
//! Not here: shards, replicas and shard keys, background optimisation, search and query,
//! snapshots, REST. Every call that is not implemented answers `Unimplemented`.
//!
//! Points outlive `kill -9` through the engine's log, everything else through [`manifest`].

#[macro_use]
mod error;

mod auth;
mod collection;
mod collections;
mod convert;
mod health;
mod manifest;
mod points;
mod registry;
mod snapshots;
mod strict_mode;
mod writes;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use qdrant_client::qdrant::collections_server::CollectionsServer;
use qdrant_client::qdrant::points_server::PointsServer;
use qdrant_client::qdrant::qdrant_server::QdrantServer;
use qdrant_client::qdrant::snapshots_server::SnapshotsServer;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::auth::ApiKey;
use crate::collections::CollectionsService;
use crate::health::HealthService;
use crate::points::PointsService;
use crate::registry::Registry;
use crate::snapshots::SnapshotsService;

/// How often changed collections are flushed, as a Qdrant server does: it bounds the log.
const FLUSH_INTERVAL: Duration = Duration::from_secs(5);

/// A test server over Qdrant's engine. The API key, if any, comes from `--api-key-file` or the
/// environment's `QDRANT_SANDBOX_API_KEY`, never from an argument.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Folder of the collections; made if absent
    #[arg(long)]
    data: PathBuf,
    /// Port on 127.0.0.1; 0 takes a free one, which the first line of output names
    #[arg(long)]
    port: u16,
    /// File that holds the API key
    #[arg(long)]
    api_key_file: Option<PathBuf>,
    /// Exit when standard input ends, so that a killed parent leaves no server behind
    #[arg(long)]
    die_with_stdin: bool,
}

/// Why the server did not start, or stopped.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("cannot open the collections in {}", .0.display())]
    Open(PathBuf, #[source] registry::OpenError),
    #[error("cannot read the API key")]
    ApiKey(#[source] auth::KeyError),
    #[error("cannot listen on {0}; is the port taken?")]
    Listen(SocketAddr, #[source] io::Error),
    #[error("cannot watch for signals")]
    Signals(#[source] io::Error),
    #[error("cannot write the address to standard output")]
    Announce(#[source] io::Error),
    #[error("the gRPC server failed")]
    Transport(#[source] tonic::transport::Error),
}

#[tokio::main]
async fn main() -> ExitCode {
    match serve(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut message = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                message = format!("{message}: {cause}");
                source = cause.source();
            }
            error::report(&message);
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: Args) -> Result<(), ServeError> {
    let key = ApiKey::read(args.api_key_file.as_deref()).map_err(ServeError::ApiKey)?;
    let registry = Arc::new(open(&args.data)?);

    let wanted = SocketAddr::from(([127, 0, 0, 1], args.port));
    let listener = TcpListener::bind(wanted).await.map_err(|source| ServeError::Listen(wanted, source))?;
    let address = listener.local_addr().map_err(|source| ServeError::Listen(wanted, source))?;

    let points = PointsServer::new(PointsService::new(Arc::clone(&registry)))
        .accept_compressed(Gzip)
        .send_compressed(Gzip)
        .max_decoding_message_size(usize::MAX);
    let collections = CollectionsServer::new(CollectionsService::new(Arc::clone(&registry)))
        .accept_compressed(Gzip)
        .send_compressed(Gzip);
    let server = Server::builder()
        // As on a real server, the health check answers without a key.
        .add_service(QdrantServer::new(HealthService).accept_compressed(Gzip))
        .add_service(InterceptedService::new(points, key.clone()))
        .add_service(InterceptedService::new(collections, key.clone()))
        .add_service(SnapshotsServer::with_interceptor(SnapshotsService, key))
        // As a real server: an answer in two pieces must not wait for the client to have acknowledged the first.
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));

    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    let flusher = tokio::spawn(flush_regularly(Arc::clone(&registry)));
    announce(address).map_err(ServeError::Announce)?;

    let served = tokio::select! {
        result = server => result.map_err(ServeError::Transport),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        () = stdin_ended(args.die_with_stdin) => Ok(()),
    };
    flusher.abort();
    registry.flush();
    served
}

fn open(data: &Path) -> Result<Registry, ServeError> {
    Registry::open(data).map_err(|source| ServeError::Open(data.to_owned(), source))
}

/// One line, flushed: whoever started the server waits for it.
fn announce(address: SocketAddr) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on {address}")?;
    stdout.flush()
}

/// Resolves when standard input ends; never if `watch` is false.
///
/// A thread of its own, not tokio's standard input, because a read that blocks would keep the
/// runtime from shutting down.
async fn stdin_ended(watch: bool) {
    if !watch {
        return std::future::pending().await;
    }
    let (ended, receiver) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut buffer = [0; 256];
        while matches!(stdin.read(&mut buffer), Ok(read) if read > 0) {}
        drop(ended);
    });
    // Nothing is ever sent: the end is that the sender is gone.
    let _ = receiver.await;
}

async fn flush_regularly(registry: Arc<Registry>) {
    let mut ticks = tokio::time::interval(FLUSH_INTERVAL);
    loop {
        ticks.tick().await;
        let registry = Arc::clone(&registry);
        // A failed flush is printed by the registry; the log still holds every operation.
        let _ = tokio::task::spawn_blocking(move || registry.flush()).await;
    }
}
