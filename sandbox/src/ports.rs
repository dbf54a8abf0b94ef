//! Free ports on 127.0.0.1.
//!
//! They are taken from below Linux's ephemeral range (32768 and up), so that no outgoing connection takes a server's
//! port while the server is stopped and about to come back. It also leaves room for a Redis Cluster's bus (+10,000).

use std::{
    hash::{BuildHasher, RandomState},
    net::TcpListener,
};

use anyhow::{Result, bail};

const FIRST: u16 = 14_000;
const COUNT: u16 = 18_000;
const ATTEMPTS: u16 = 200;

/// A port that nobody listened on a moment ago. Another process may take it first: who starts a server on it looks
/// whether the server got it, and asks for another one otherwise.
///
/// # Errors
///
/// When none of 200 random ports is free.
pub fn free_port() -> Result<u16> {
    for attempt in 0..ATTEMPTS {
        let random = RandomState::new().hash_one(attempt) % u64::from(COUNT);
        let port = FIRST + u16::try_from(random)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between {FIRST} and {}", FIRST + COUNT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_can_be_listened_on() {
        let port = free_port().unwrap();
        assert!((FIRST..FIRST + COUNT).contains(&port));
        TcpListener::bind(("127.0.0.1", port)).unwrap();
    }
}
