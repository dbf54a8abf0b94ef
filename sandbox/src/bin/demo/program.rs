//! The built program, and the configuration that it is given.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use anyhow::{Context, Result, bail};
use sandbox::Addresses;
use sandbox::config::{Settings, environment, file};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

/// What the platform shows to the API. The demo listens on no address but the machine's own.
pub const TOKEN: &str = "the-demo-shows-this-token-to-everybody";

/// `course-gc` with a configuration in a folder of its own.
pub struct Program {
    path: PathBuf,
    folder: TempDir,
    environment: Vec<(String, String)>,
}

impl Program {
    /// Finds the program and writes its configuration.
    pub fn configured(addresses: &Addresses, settings: &Settings) -> Result<Self> {
        // Cargo puts both programs into one folder.
        let path = std::env::current_exe()?.with_file_name("course-gc");
        if !path.is_file() {
            bail!("{} is not built: `make build` builds it", path.display());
        }
        let folder = tempfile::Builder::new().prefix("course-gc-demo-").tempdir()?;
        let token = folder.path().join("token");
        std::fs::write(&token, TOKEN)?;
        let token = format!("  platform: {{ file: {}, scopes: [read, cleanup, admin] }}", token.display());
        let settings = Settings { api: vec!["tokens:".to_owned(), token], ..settings.clone() };
        let program = Self { path, folder, environment: environment(addresses) };
        std::fs::write(program.config(), file(addresses, &settings))?;
        Ok(program)
    }

    /// The program's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("course-gc.yaml")
    }

    /// The variables that go with the configuration.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// Runs it to its end, and returns what it printed for people.
    pub async fn text(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments).await?;
        String::from_utf8(output.stdout).context("its output is no text")
    }

    /// Runs it to its end, and returns what it printed for programs.
    pub async fn json(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.run(&[arguments, &["--output", "json"]].concat()).await?;
        serde_json::from_slice(&output.stdout).context("its output is no JSON")
    }

    /// Everything that the demo asks for ends with exit code 0.
    async fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.path);
        command.args(arguments).envs(self.environment.iter().cloned());
        command.env("COURSE_GC_CONFIG", self.config()).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.with_context(|| format!("starting {}", self.path.display()))?;
        if !output.status.success() {
            let (said, logged) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            bail!("`course-gc {}` ended with {}:\n{said}{logged}", arguments.join(" "), output.status);
        }
        Ok(output)
    }
}
