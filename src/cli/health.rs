//! `course-gc health`: how the `serve` of the same configuration is, for who can only start a command, as an image's healthcheck can.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};

use super::{Output, answer};
use crate::config::Config;

/// An image's healthcheck gives up after 30 s.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// Asks `/healthz`.
pub async fn health(output: Output, config: &Config) -> anyhow::Result<u8> {
    let address = reached(config.http.listen);
    // Of rustls' several cryptographies one must be named, even where nothing is encrypted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // A certificate is for the name by which others know it, and this is loopback.
    let client = reqwest::Client::builder().timeout(ANSWERS_WITHIN).no_proxy().tls_danger_accept_invalid_certs(true);
    let scheme = if config.http.tls.is_some() { "https" } else { "http" };
    let reply = ask(&client.build()?, &format!("{scheme}://{address}/healthz")).await;
    let (status, text) = reply.with_context(|| format!("`serve` does not answer at {address} (`http.listen`)"))?;
    let text = text.trim();
    if !status.is_success() {
        bail!("`serve` is not well: {text}");
    }
    answer(output, text, || serde_json::json!({ "health": text }))
}

async fn ask(client: &reqwest::Client, url: &str) -> reqwest::Result<(reqwest::StatusCode, String)> {
    let reply = client.get(url).send().await?;
    Ok((reply.status(), reply.text().await?))
}

/// Where a program on the same machine reaches who listens there: "all addresses" is none.
fn reached(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_on_all_addresses_is_reached_by_loopback() {
        for (listen, reaches) in
            [("0.0.0.0:9090", "127.0.0.1:9090"), ("[::]:8080", "[::1]:8080"), ("10.0.0.7:9090", "10.0.0.7:9090")]
        {
            assert_eq!(reached(listen.parse().unwrap()), reaches.parse().unwrap());
        }
    }
}
