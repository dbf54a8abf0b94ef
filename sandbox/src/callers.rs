//! Those who call course-gc: tRPC's own client, the call of a web route, and the Next.js module (`sandbox/callers/drive.mjs`).

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

use crate::program::program;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/callers");
const NEXTJS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../integrations/nextjs");

/// How long one call may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The callers, with the Next.js module compiled: which is how its types are checked.
pub struct Callers {
    modules: TempDir,
}

impl Callers {
    /// Compiles the module.
    ///
    /// # Errors
    ///
    /// When Node or what it needs is not installed, or the module's types are wrong.
    pub async fn compile() -> Result<Self> {
        let compiler = Path::new(FOLDER).join("node_modules/typescript/bin/tsc");
        if !compiler.is_file() {
            bail!("TypeScript is not installed in {FOLDER}: `make setup` installs what the sandbox needs");
        }
        let modules = tempfile::tempdir()?;
        // Node has to be told that these are modules.
        std::fs::write(modules.path().join("package.json"), r#"{"type": "module"}"#)?;
        let output = Command::new(program("node")?)
            .args([compiler, PathBuf::from("-p"), PathBuf::from(NEXTJS), PathBuf::from("--outDir")])
            .arg(modules.path())
            .kill_on_drop(true)
            .output();
        let output = timeout(LIMIT, output).await.context("the compiler did not come to an end")??;
        if !output.status.success() {
            bail!("the Next.js module: {}", String::from_utf8_lossy(&output.stdout));
        }
        Ok(Self { modules })
    }

    /// What one of them got; the program says which there are, and what they are given.
    ///
    /// # Errors
    ///
    /// When Node fails.
    pub async fn call(&self, arguments: &[&str]) -> Result<Value> {
        let output = Command::new(program("node")?)
            .arg("drive.mjs")
            .args(arguments)
            .env("MODULES", self.modules.path())
            .current_dir(FOLDER)
            .kill_on_drop(true)
            .output();
        let output = timeout(LIMIT, output).await.context("the caller did not come to an end")??;
        if !output.status.success() {
            bail!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        serde_json::from_slice(&output.stdout).context("what the caller got")
    }
}
