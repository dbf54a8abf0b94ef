//! `make demo`: course-gc on a seeded campus, with real servers, from the first leak to the proof that it is gone.
//!
//! The collector is the built program, started as a person would start it. What became of the leaks is not asked of it,
//! but counted in the stores themselves, and compared with what the campus says should become of each resource.
//!
//! With `--keep` the servers and `course-gc serve` go on until Ctrl-C.

mod keep;
mod life;
mod program;
mod proof;
mod reasons;
mod story;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use self::story::Story;

/// The exit code of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

#[tokio::main]
async fn main() -> ExitCode {
    match demo().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> Result<ExitCode> {
    let keep = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [argument] if argument == "--keep" => true,
        other => bail!("unknown arguments {other:?}; possible: --keep"),
    };
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let asked_to_stop = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::pin!(asked_to_stop);
    // What is dropped takes its servers and folders with it.
    let story = tokio::select! {
        story = Story::tell() => story?,
        () = &mut asked_to_stop => return Ok(ExitCode::from(INTERRUPTED)),
    };
    if keep {
        keep::serve(&story, asked_to_stop).await?;
    } else {
        println!("To look around, to ask course-gc yourself, or to delete a course and watch: make demo KEEP=1");
    }
    Ok(if story.proven { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
