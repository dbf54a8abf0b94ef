//! Cleaning up on servers that were given to the tests and outlive them.

use std::time::Duration;

use anyhow::{Context, Result};

const WITHIN: Duration = Duration::from_secs(20);

/// Runs `work` to its end from within `Drop`, where nothing can be awaited: on a thread and a runtime of its own,
/// because the one that the test runs on may be single-threaded or already gone. A failure is printed: what stays
/// behind on a given server has to be removed by hand.
pub(crate) fn finish<F>(what: &str, work: impl FnOnce() -> F + Send)
where
    F: Future<Output = Result<()>>,
{
    let run = || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { tokio::time::timeout(WITHIN, work()).await.context("timed out")? })
    };
    let result = std::thread::scope(|scope| scope.spawn(run).join());
    if let Err(error) = result.unwrap_or_else(|_| Err(anyhow::anyhow!("the cleaning thread panicked"))) {
        eprintln!("sandbox: cleaning up {what} failed: {error:#}");
    }
}
