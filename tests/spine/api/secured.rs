//! TLS: the program shows a certificate from files that are replaced while it serves.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::{Certificate, Client};
use sandbox::config::Settings;
use sandbox::{World, certificates, free_port};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::Child;

use crate::support::{Answer, Installation, eventually};

const TOKEN: &str = "web-token-that-nobody-could-guess-0001";

/// An authority, and what it signed.
struct Authority(TempDir);

impl Authority {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        certificates(folder.path())?;
        Ok(Self(folder))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A caller who trusts this authority and no other, without a connection yet.
    fn caller(&self) -> Result<Client> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ca = Certificate::from_pem(&fs::read(self.file("ca.pem"))?)?;
        Ok(Client::builder().tls_certs_only([ca]).timeout(Duration::from_secs(20)).build()?)
    }
}

/// The program with a certificate; its log is in a file.
struct Scene {
    installation: Installation,
    address: SocketAddr,
    folder: TempDir,
    program: Child,
    _world: World,
}

impl Scene {
    async fn set(first: &Authority) -> Result<Self> {
        let world = World::create().await?;
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("token"), TOKEN)?;
        let token = format!("  web: {{ file: {}/token, scopes: [read] }}", folder.path().display());
        let settings = Settings { cron: "0 0 1 1 *".into(), api: vec!["tokens:".into(), token], ..Settings::default() };
        let installation = Installation::new(world.addresses(), &settings).await?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        put(first, folder.path())?;
        let program = self::program(&installation, "serve", address, folder.path())
            .stdout(Stdio::null())
            .stderr(File::create(folder.path().join("log"))?)
            .spawn()?;
        let scene = Self { installation, address, folder, program, _world: world };
        eventually("it answers who trusts it", async || Ok(scene.asked_by(first).await.ok())).await?;
        Ok(scene)
    }

    /// The status of a route of the API, asked over a new connection.
    async fn asked_by(&self, authority: &Authority) -> Result<u16> {
        let url = format!("https://{}/v1/pause", self.address);
        Ok(authority.caller()?.get(url).bearer_auth(TOKEN).send().await?.status().as_u16())
    }

    fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.path().join("log"))?)
    }
}

fn program(installation: &Installation, name: &str, address: SocketAddr, files: &Path) -> tokio::process::Command {
    let mut command = installation.command(&[name]);
    command.env("COURSE_GC_HTTP_LISTEN", address.to_string());
    command.env("COURSE_GC_HTTP_TLS_CERTIFICATE_FILE", files.join("certificate.pem"));
    command.env("COURSE_GC_HTTP_TLS_KEY_FILE", files.join("key.pem"));
    command
}

/// Puts a certificate and its key where the program looks, as a renewal does: one after the other.
fn put(authority: &Authority, folder: &Path) -> Result<()> {
    for name in ["certificate.pem", "key.pem"] {
        fs::copy(authority.file(name), folder.join("new"))?;
        fs::rename(folder.join("new"), folder.join(name))?;
    }
    Ok(())
}

#[tokio::test]
async fn who_trusts_the_authority_is_answered_and_a_renewed_certificate_is_served_without_a_restart() -> Result<()> {
    let (first, second) = (Authority::new()?, Authority::new()?);
    let mut scene = Scene::set(&first).await?;
    assert_eq!(scene.asked_by(&first).await?, 200);
    assert!(scene.asked_by(&second).await.is_err(), "another authority vouches for nothing here");
    let health = first.caller()?.get(format!("https://{}/healthz", scene.address)).send().await?;
    assert_eq!(health.status(), 200, "the same address answers probes, with TLS as well");
    // As an image's healthcheck asks, which has no name for loopback that a certificate could be for.
    let asked = program(&scene.installation, "health", scene.address, scene.folder.path()).output().await?;
    assert_eq!((asked.status.code(), String::from_utf8(asked.stdout)?.trim()), (Some(0), "ok"));
    let elsewhere = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let asked = program(&scene.installation, "health", elsewhere, scene.folder.path()).output().await?;
    assert_eq!(asked.status.code(), Some(1), "nobody is there");
    let plain = Client::new().get(format!("http://{}/healthz", scene.address)).send().await;
    assert!(plain.is_err(), "nothing is answered without TLS: {plain:?}");
    // Who says nothing, and who talks nonsense, keeps nobody waiting.
    let mut silent = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(scene.address).await?;
        stream.write_all(b"\x16\x03\x01").await?;
        silent.push(stream);
    }
    assert_eq!(scene.asked_by(&first).await?, 200);

    // What is no certificate, and what does not go with the key, is refused loudly.
    fs::write(scene.folder.path().join("certificate.pem"), "-----BEGIN CERTIFICATE-----\nnone")?;
    assert_eq!(scene.asked_by(&first).await?, 200, "the one of before goes on");
    let refused = "a new certificate is refused; the one of before goes on";
    assert!(scene.log()?.contains(refused), "{}", scene.log()?);
    assert!(scene.log()?.contains("no certificate can be read from"), "{}", scene.log()?);
    fs::copy(second.file("certificate.pem"), scene.folder.path().join("certificate.pem"))?;
    assert_eq!(scene.asked_by(&first).await?, 200, "half a renewal changes nothing");
    assert!(scene.log()?.contains("cannot be served with the key in"), "{}", scene.log()?);

    put(&second, scene.folder.path())?;
    assert_eq!(scene.asked_by(&second).await?, 200, "it was renewed");
    assert!(scene.asked_by(&first).await.is_err());
    assert!(scene.program.try_wait()?.is_none(), "it is the same process");

    // At the start there is none of before.
    fs::remove_file(scene.folder.path().join("key.pem"))?;
    let output = program(&scene.installation, "serve", scene.address, scene.folder.path()).output().await?;
    let answer = Answer {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout)?,
        stderr: String::from_utf8(output.stderr)?,
    };
    assert_eq!(answer.code, Some(2), "{answer:?}");
    assert!(
        answer.stderr.contains("`http.tls` has no certificate that can be served: no key can be read"),
        "{answer:?}"
    );
    assert_eq!(scene.asked_by(&second).await?, 200, "whoever serves already goes on");
    drop(silent);
    scene.program.start_kill().context("it served to the end")
}
