//! TLS, where it is configured: a certificate and its key in files that are looked at with each connection, so that a renewed
//! certificate is served without a restart.
//!
//! - What cannot be used does not take the place of what can: it is refused with an error in the log, and the certificate of before
//!   goes on. Only at the start there is none before, so the program does not serve.
//! - Hands are shaken beside each other: who is slow at it, or keeps silent, keeps nobody else waiting.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::serve::Listener;
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::patience::{Connection, Patient};
use super::watched::Version;
use crate::errors::chain;

/// How long a caller has to agree with us upon keys.
const GREET_WITHIN: Duration = Duration::from_secs(10);
/// With so many at a time; further ones wait until the system lets them in.
const GREETED_AT_ONCE: usize = 512;

/// Why a certificate is not served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not there, or not as it should be.
    #[error("no {expected} can be read from {}; it should be there as PEM", .file.display())]
    File {
        /// What should be in it.
        expected: &'static str,
        /// The file.
        file: PathBuf,
        /// Why it cannot be read.
        #[source]
        source: pem::Error,
    },
    /// They were read, and are of no use together.
    #[error("the certificate in {} cannot be served with the key in {}", .files.certificate.display(), .files.key.display())]
    Unusable {
        /// The files.
        files: CertificateFiles,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// Where a certificate lies.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// The certificate, and behind it those of whoever lies between it and an authority that callers trust; PEM.
    pub certificate: PathBuf,
    /// Its key, unencrypted; PEM.
    pub key: PathBuf,
}

impl CertificateFiles {
    fn version(&self) -> [Option<Version>; 2] {
        [&self.certificate, &self.key].map(|file| Version::of(file))
    }

    fn read(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let unreadable = |expected, file: &PathBuf| {
            let file = file.clone();
            move |source| TlsError::File { expected, file, source }
        };
        let chain = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(unreadable("certificate", &self.certificate))?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(unreadable("key", &self.key))?;
        let unusable = |source| TlsError::Unusable { files: self.clone(), source };
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(unusable)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// The certificate that is served.
pub struct Certificate {
    files: CertificateFiles,
    held: Mutex<Held>,
}

struct Held {
    /// Of the files as they were last read, whatever came of it.
    version: [Option<Version>; 2],
    config: Arc<ServerConfig>,
}

impl Certificate {
    /// Reads it.
    ///
    /// # Errors
    /// If there is none that can be served.
    pub fn read(files: CertificateFiles) -> Result<Self, TlsError> {
        let version = files.version();
        let held = Mutex::new(Held { version, config: files.read()? });
        Ok(Self { files, held })
    }

    /// That of the files as they are now, or the last one that could be served.
    fn current(&self) -> Arc<ServerConfig> {
        // Before they are read: what changes in between is read again the next time.
        let version = self.files.version();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.version != version {
            held.version = version;
            match self.files.read() {
                Ok(config) => {
                    tracing::info!(file = %self.files.certificate.display(), "serving a renewed certificate");
                    held.config = config;
                }
                Err(error) => {
                    tracing::error!(error = chain(&error), "a new certificate is refused; the one of before goes on");
                }
            }
        }
        Arc::clone(&held.config)
    }
}

/// A listener that speaks TLS and nothing else.
pub struct Secured {
    listener: Patient,
    certificate: Arc<Certificate>,
    greeted: JoinSet<Option<(TlsStream<Connection>, SocketAddr)>>,
}

impl Secured {
    /// Whoever comes to `listener` is shown the certificate.
    pub fn new(listener: Patient, certificate: Arc<Certificate>) -> Self {
        Self { listener, certificate, greeted: JoinSet::new() }
    }

    fn greet(&mut self, connection: Connection, address: SocketAddr) {
        let greeting = TlsAcceptor::from(self.certificate.current()).accept(connection);
        self.greeted.spawn(async move {
            match timeout(GREET_WITHIN, greeting).await {
                Ok(Ok(stream)) => return Some((stream, address)),
                Ok(Err(error)) => tracing::debug!(%address, error = chain(&error), "no TLS with this caller"),
                Err(_) => tracing::debug!(%address, "a caller was too slow to begin with TLS"),
            }
            None
        });
    }
}

impl Listener for Secured {
    type Io = TlsStream<Connection>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            tokio::select! {
                (connection, address) = self.listener.accept(), if self.greeted.len() < GREETED_AT_ONCE => {
                    self.greet(connection, address);
                }
                Some(ended) = self.greeted.join_next() => {
                    if let Ok(Some(greeted)) = ended {
                        return greeted;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
