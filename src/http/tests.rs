//! What is answered over a real socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::clock::MachineClock;

/// An answer: its status, its head in lower case and its body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// Asks over a connection of its own; `None` if nobody listens.
pub async fn ask(address: SocketAddr, method: &str, path: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut text = String::new();
    let read = stream.read_to_string(&mut text);
    tokio::time::timeout(Duration::from_secs(20), read).await.unwrap().ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_lowercase(), body: body.to_owned() })
}

struct Server {
    address: SocketAddr,
    health: Arc<Health>,
    _task: AbortOnDropHandle<std::io::Result<()>>,
}

impl Server {
    async fn start() -> Self {
        Self::with_patience(PATIENCE).await
    }

    async fn with_patience(patience: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let health = Arc::new(Health::new(Arc::new(MachineClock)));
        let metrics = Arc::new(Metrics::new(&[("cache", "redis")]).unwrap());
        let board = Arc::new(Board::default());
        let app = Switch::new(Site { metrics, health: Arc::clone(&health), board, api: None }).router();
        let task = tokio::spawn(answer_on(Patient::new(listener, patience), app, CancellationToken::new()));
        Self { address, health, _task: AbortOnDropHandle::new(task) }
    }

    async fn ask(&self, method: &str, path: &str) -> Answer {
        ask(self.address, method, path).await.unwrap()
    }
}

#[tokio::test]
async fn readiness_says_what_is_missing() {
    let server = Server::start().await;
    let starting = server.ask("GET", "/readyz").await;
    assert_eq!((starting.status, starting.body.as_str()), (503, "the ledger has not been looked at yet\n"));
    server.health.set_ready(Ok(()));
    let ready = server.ask("GET", "/readyz").await;
    assert_eq!((ready.status, ready.body.as_str()), (200, "ok\n"));
    server.health.set_ready(Err(Unwell::Ledger("no answer".into())));
    assert_eq!(server.ask("GET", "/readyz").await.body, "the ledger cannot be used: no answer\n");
    server.health.stop();
    server.health.set_ready(Ok(()));
    let stopping = server.ask("GET", "/readyz").await;
    assert_eq!((stopping.status, stopping.body.as_str()), (503, "shutting down\n"));
}

#[tokio::test]
async fn liveness_does_not_depend_on_the_ledger() {
    let server = Server::start().await;
    server.health.set_ready(Err(Unwell::Ledger("no answer".into())));
    assert_eq!(server.ask("GET", "/healthz").await.status, 200);
}

#[tokio::test]
async fn metrics_have_prometheuss_media_type() {
    let server = Server::start().await;
    let metrics = server.ask("GET", "/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"), "{}", metrics.head);
    assert!(metrics.body.contains("course_gc_resources_deleted_total{store=\"cache\"} 0\n"), "{}", metrics.body);
}

#[tokio::test]
async fn what_is_not_there_is_answered_in_words() {
    let server = Server::start().await;
    let missing = server.ask("GET", "/nothing?here").await;
    assert_eq!(missing.status, 404);
    assert_eq!(missing.body, "nothing is at /nothing; there are /, /healthz, /readyz and /metrics\n");
    let refused = server.ask("DELETE", "/metrics").await;
    assert_eq!((refused.status, refused.body.as_str()), (405, "/metrics does not take DELETE; use GET\n"));
    assert!(refused.head.contains("allow: get,head"), "{}", refused.head);
    let head = server.ask("HEAD", "/healthz").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn half_a_request_holds_no_connection() {
    let server = Server::with_patience(Duration::from_millis(100)).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost:").await.unwrap();
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    assert!(closed.is_ok(), "it is closed, in whatever way");
    assert!(answer.is_empty());
}

#[tokio::test]
async fn closing_lets_an_answer_end_and_takes_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, close) = (Arc::new(tokio::sync::Notify::new()), CancellationToken::new());
    let (begun, closing) = (Arc::clone(&asked), close.clone());
    let slow = get(move || async move {
        begun.notify_one();
        closing.cancelled().await;
        "late"
    });
    let app = Router::new().route("/slow", slow);
    let server = tokio::spawn(answer_on(Patient::new(listener, PATIENCE), app, close.clone()));
    let answer = tokio::spawn(ask(address, "GET", "/slow"));
    asked.notified().await;
    close.cancel();
    assert_eq!(answer.await.unwrap().unwrap().body, "late");
    server.await.unwrap().unwrap();
    assert!(ask(address, "GET", "/slow").await.is_none());
}
