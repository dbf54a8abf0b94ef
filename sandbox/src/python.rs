//! Programs that come with Python's packages, in an environment of their own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::process::Command;

/// A program of the Python environment that `scripts/setup` prepares in the clone that this process runs in, looked for as the
/// Qdrant test server is.
pub(crate) fn python_part(program: &str) -> Result<PathBuf> {
    let compiled_in = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned);
    let here = std::env::current_dir()?;
    here.ancestors()
        .map(Path::to_owned)
        .chain(compiled_in)
        .map(|folder| folder.join("sandbox/.venv/bin").join(program))
        .find(|path| path.is_file())
        .with_context(|| format!("`{program}` is not in sandbox/.venv: `make setup` prepares it"))
}

/// A module of the Python environment, run as a program.
pub struct Python;

impl Python {
    /// The program, without arguments yet.
    ///
    /// # Errors
    ///
    /// When the environment is not there.
    pub fn command(module: &str) -> Result<Command> {
        let mut command = Command::new(python_part("python")?);
        command.args(["-m", module]);
        Ok(command)
    }
}
