//! The program: see `course-gc --help`.

use std::process::ExitCode;

use clap::Parser;
use course_gc::cli::{self, Cli};

#[tokio::main]
async fn main() -> ExitCode {
    cli::main(Cli::parse()).await
}
