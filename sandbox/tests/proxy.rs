//! The proxy: each behaviour is what it says, from the moment that it says, and nothing stays when the handle is gone.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail as tests do")]

use std::{
    io::ErrorKind,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use sandbox::{Behaviour, Proxy};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{Instant, timeout},
};

const SOON: Duration = Duration::from_secs(10);
/// How long is waited for what should not come.
const NEVER: Duration = Duration::from_millis(200);

/// A server that answers in capitals, and remembers what it was told.
struct Server {
    port: u16,
    heard: Arc<Mutex<Vec<u8>>>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let told = Arc::clone(&told);
                tokio::spawn(async move {
                    let mut bytes = [0; 1024];
                    while let Ok(length @ 1..) = client.read(&mut bytes).await {
                        told.lock().unwrap().extend_from_slice(&bytes[..length]);
                        client.write_all(&bytes[..length].to_ascii_uppercase()).await.unwrap();
                    }
                });
            }
        });
        Self { port, heard, task }
    }

    fn heard(&self) -> String {
        String::from_utf8(self.heard.lock().unwrap().clone()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await.unwrap()
}

/// Says something and returns what comes back: so many bytes, or fewer before the end.
async fn ask(stream: &mut TcpStream, question: &str) -> Vec<u8> {
    stream.write_all(question.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while answer.len() < question.len() {
        match timeout(SOON, stream.read(&mut byte)).await.unwrap() {
            Ok(1) => answer.push(byte[0]),
            _ => break,
        }
    }
    answer
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    !matches!(timeout(SOON, stream.read(&mut byte)).await.unwrap(), Ok(1))
}

async fn is_silent(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    timeout(NEVER, stream.read(&mut byte)).await.is_err()
}

#[tokio::test]
async fn what_passes_passes_and_drop_closes_what_is_open() {
    let server = Server::start().await;
    let proxy = Proxy::before(server.port).unwrap();
    let mut stream = connect(&proxy).await;
    assert_eq!(ask(&mut stream, "hello").await, b"HELLO");
    proxy.switch(Behaviour::Drop);
    assert!(is_closed(&mut stream).await);
    assert_eq!(ask(&mut connect(&proxy).await, "again").await, b"AGAIN");
}

#[tokio::test]
async fn refused_is_refused_and_comes_back_on_the_same_port() {
    let server = Server::start().await;
    let proxy = Proxy::before(server.port).unwrap();
    let mut stream = connect(&proxy).await;
    assert_eq!(ask(&mut stream, "hello").await, b"HELLO");
    proxy.switch(Behaviour::Refuse);
    assert!(is_closed(&mut stream).await);
    // The proxy's own thread closes its port some time after it was told to.
    let told = Instant::now();
    loop {
        match TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await {
            Err(refused) if refused.kind() == ErrorKind::ConnectionRefused => break,
            // Whoever comes in the moment in which it closes is let in, or reset.
            other => assert!(told.elapsed() < SOON, "it is not refused: {other:?}"),
        }
        tokio::task::yield_now().await;
    }
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, proxy.port())).unwrap_err();
    proxy.switch(Behaviour::Pass);
    let deadline = Instant::now() + SOON;
    let mut back = loop {
        match TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).await {
            Ok(stream) => break stream,
            Err(_) => assert!(Instant::now() < deadline),
        }
    };
    assert_eq!(ask(&mut back, "back").await, b"BACK");
}

#[tokio::test]
async fn silence_swallows_both_ways_and_what_it_swallowed_does_not_come_late() {
    let server = Server::start().await;
    let proxy = Proxy::before(server.port).unwrap();
    let mut open = connect(&proxy).await;
    assert_eq!(ask(&mut open, "a").await, b"A");
    proxy.switch(Behaviour::Silent);
    let mut new = connect(&proxy).await;
    for stream in [&mut open, &mut new] {
        stream.write_all(b"lost").await.unwrap();
        assert!(is_silent(stream).await);
    }
    proxy.switch(Behaviour::Pass);
    assert!(is_closed(&mut open).await && is_closed(&mut new).await);
    assert_eq!(ask(&mut connect(&proxy).await, "b").await, b"B");
    assert_eq!(server.heard(), "ab");
}

#[tokio::test]
async fn a_delay_holds_answers_up_and_loses_nothing() {
    let server = Server::start().await;
    let proxy = Proxy::before(server.port).unwrap();
    let mut stream = connect(&proxy).await;
    proxy.switch(Behaviour::Delay(NEVER));
    let began = Instant::now();
    assert_eq!(ask(&mut stream, "late").await, b"LATE");
    assert!(began.elapsed() >= NEVER);
    proxy.switch(Behaviour::Pass);
    assert_eq!(ask(&mut stream, "soon").await, b"SOON");
}

#[tokio::test]
async fn a_cut_passes_the_request_and_the_beginning_of_its_answer() {
    let server = Server::start().await;
    let proxy = Proxy::before(server.port).unwrap();
    let mut stream = connect(&proxy).await;
    assert_eq!(ask(&mut stream, "whole").await, b"WHOLE");
    proxy.switch(Behaviour::Cut(3));
    assert_eq!(ask(&mut stream, "halved").await, b"HAL");
    assert_eq!(ask(&mut connect(&proxy).await, "too").await, b"TOO");
    assert_eq!(server.heard(), "wholehalvedtoo");
}

#[tokio::test]
async fn garbage_is_as_long_as_the_answer_and_not_the_answer() {
    let server = Server::start().await;
    let proxy = Proxy::before(server.port).unwrap();
    let mut stream = connect(&proxy).await;
    proxy.switch(Behaviour::Garbage);
    let answer = ask(&mut stream, "sense").await;
    assert!(answer.len() == 5 && answer != b"SENSE", "{answer:?}");
    assert_eq!(server.heard(), "sense");
    proxy.switch(Behaviour::Pass);
    assert!(is_closed(&mut stream).await);
}

#[tokio::test]
async fn a_switch_waits_for_words_in_their_order_and_comes_before_the_last_one() {
    let server = Server::start().await;
    let proxy = Proxy::before(server.port).unwrap();
    proxy.switch_after(&[b"one", b"two", b"two"], Behaviour::Drop);
    let (mut stream, mut other) = (connect(&proxy).await, connect(&proxy).await);
    assert_eq!(ask(&mut stream, "two one tw").await, b"TWO ONE TW");
    assert_eq!(ask(&mut other, "o").await, b"O", "a word is sent on one connection");
    assert_eq!(ask(&mut stream, "o").await, b"O");
    assert!(!proxy.has_switched());
    assert_eq!(ask(&mut other, "one, two").await, b"");
    assert!(proxy.has_switched() && is_closed(&mut stream).await);
    assert_eq!(server.heard(), "two one twoo");
}

#[tokio::test]
async fn a_proxy_is_gone_with_its_handle() {
    let server = Server::start().await;
    let proxy = Proxy::before(server.port).unwrap();
    let mut stream = connect(&proxy).await;
    assert_eq!(ask(&mut stream, "hello").await, b"HELLO");
    let port = proxy.port();
    drop(proxy);
    assert!(is_closed(&mut stream).await);
    let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn it_is_told_how_many_waited_for_an_answer_at_once() {
    let server = Server::start().await;
    let proxy = Proxy::before(server.port).unwrap();
    let (mut one, mut two) = (connect(&proxy).await, connect(&proxy).await);
    for _ in 0..3 {
        ask(&mut one, "a").await;
        ask(&mut two, "b").await;
    }
    assert_eq!(proxy.most_waiting(), 1);
    proxy.switch(Behaviour::Delay(Duration::from_millis(50)));
    tokio::join!(ask(&mut one, "a"), ask(&mut two, "b"));
    assert_eq!(proxy.most_waiting(), 2);
}
