//! Certificates for servers that speak TLS.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::python::python_part;

/// Makes, in a folder, an authority (`ca.pem`) and a certificate that it signed for 127.0.0.1 (`certificate.pem`, `key.pem`), valid for
/// a day; and an authority that signed nothing (`other-ca.pem`).
///
/// # Errors
///
/// When the Python environment is not there.
pub fn certificates(folder: &Path) -> Result<()> {
    let made =
        Command::new(python_part("python")?).args(["-c", include_str!("certificate.py")]).arg(folder).output()?;
    if !made.status.success() {
        bail!("the certificates were not made: {}", String::from_utf8_lossy(&made.stderr));
    }
    Ok(())
}
