//! Finding the programs that the sandbox starts.
//!
//! Every program is asked for as `program("name")`, with the name in place: `scripts/check-packages` reads these calls
//! and makes sure that `scripts/packages.txt`, and with it `make setup`, knows each.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};

/// Where Debian keeps the server programs of each Postgres version, outside of `PATH`.
const POSTGRES_VERSIONS: &str = "/usr/lib/postgresql";

/// Where Debian keeps other servers, which only root's `PATH` names.
const SYSTEM: &str = "/usr/sbin";

/// The path of a program, from Debian's folder of the newest Postgres, from `PATH` or from the system's own.
///
/// # Errors
///
/// When the program is not installed; the message says how to install it.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    postgres_folders()
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain([SYSTEM.into()])
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| anyhow!("the program `{name}` is not installed: `make setup` installs what the sandbox needs"))
}

/// The folders with Postgres' programs, the newest version first.
fn postgres_folders() -> Vec<PathBuf> {
    let mut versions: Vec<u32> = std::fs::read_dir(POSTGRES_VERSIONS)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.into_iter().map(|version| Path::new(POSTGRES_VERSIONS).join(version.to_string()).join("bin")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_the_cure() {
        let error = program("no-such-program").unwrap_err().to_string();
        assert!(error.contains("`no-such-program`") && error.contains("make setup"), "{error}");
    }

    #[test]
    fn debian_s_postgres_is_found_outside_of_the_path() {
        assert!(program("initdb").unwrap().is_file());
    }
}
