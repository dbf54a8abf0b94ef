//! `make bench`.

use std::path::PathBuf;

use anyhow::Result;
use bench::report::{keep, table};
use bench::rows::Name;
use bench::size::Size;
use bench::task::{Task, perform};
use clap::{Parser, ValueEnum};

/// Measures course-gc beside what else a person would use.
#[derive(Debug, Parser)]
struct Arguments {
    /// How much there is of everything.
    #[arg(long, default_value = "small")]
    size: Size,
    /// These rows only.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Name>,
    /// How often each side goes. Default: once if small, otherwise five times.
    #[arg(long)]
    rounds: Option<u32>,
    /// Where results are kept: rows that are not measured now stay.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// For its own use: does this task and tells how long it took.
    #[arg(long, hide = true)]
    task: Option<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(task) = arguments.task {
        let task: Task = serde_json::from_str(&task)?;
        println!("{}", serde_json::to_string(&perform(task).await?)?);
        return Ok(());
    }
    let rows = if arguments.only.is_empty() { Name::value_variants().to_vec() } else { arguments.only };
    let rounds = arguments.rounds.unwrap_or(arguments.size.rounds());
    for row in rows {
        let row = row.measure(arguments.size, rounds).await?;
        print!("{}", table(&row));
        keep(&arguments.out, arguments.size, row)?;
    }
    Ok(())
}
