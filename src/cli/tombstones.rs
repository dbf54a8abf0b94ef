//! `course-gc tombstones`: the trigger that records deaths, installed, removed and looked at.

use std::fmt::Write;

use anyhow::ensure;
use clap::Subcommand;
use serde_json::{Value, json};

use super::{Output, answer};
use crate::app;
use crate::config::Config;
use crate::tombstones::{Coverage, Prepared, Status, Tombstones};

#[derive(Debug, Clone, Copy, Subcommand)]
pub(super) enum TombstonesCommand {
    /// Print the SQL that installs the trigger, or brings it up to date. With `--yes`: run it.
    Install {
        /// Run it, with the rights of the source's URL.
        #[arg(long)]
        yes: bool,
    },
    /// Print the SQL that removes the trigger and all tombstones. With `--yes`: run it.
    Remove {
        /// Run it, with the rights of the source's URL.
        #[arg(long)]
        yes: bool,
    },
    /// Show where it is installed, and how many deaths were recorded.
    Status,
}

pub(super) async fn tombstones(output: Output, config: &Config, command: TombstonesCommand) -> anyhow::Result<u8> {
    let watched = app::watched(config);
    ensure!(
        !watched.is_empty(),
        "no liveness source keeps tombstones; name the table that holds its courses: `tombstones: {{ table: public.courses }}`"
    );
    match command {
        TombstonesCommand::Install { yes } => {
            let mut all = Vec::new();
            for (name, tombstones) in watched {
                all.push((name, tombstones.install().await?));
            }
            change(output, all, yes, "installed").await
        }
        TombstonesCommand::Remove { yes } => {
            let mut all = Vec::new();
            for (name, tombstones) in watched {
                all.push((name, tombstones.remove().await?));
            }
            change(output, all, yes, "removed").await
        }
        TombstonesCommand::Status => status(output, watched).await,
    }
}

async fn change(output: Output, all: Vec<(String, Prepared)>, yes: bool, done: &str) -> anyhow::Result<u8> {
    if yes {
        for (_, prepared) in &all {
            prepared.run().await?;
        }
    }
    let text = all.iter().fold(String::new(), |mut text, (name, prepared)| {
        let _ = if yes {
            writeln!(text, "liveness source {name}: {done}")
        } else {
            writeln!(text, "-- liveness source {name}; with --yes this is run\n{}", prepared.script())
        };
        text
    });
    let entry = |(name, prepared): &(String, Prepared)| json!({ "source": name, "statements": prepared.statements, "done": yes });
    answer(output, text.trim_end(), || json!({ "sources": all.iter().map(entry).collect::<Vec<Value>>() }))
}

async fn status(output: Output, watched: Vec<(String, Tombstones)>) -> anyhow::Result<u8> {
    let mut all = Vec::new();
    for (name, tombstones) in watched {
        all.push((name, tombstones.status().await?));
    }
    let text: Vec<String> =
        all.iter().map(|(name, status)| format!("liveness source {name}: {}", describe(status))).collect();
    let entry =
        |(name, status): &(String, Status)| json!({ "source": name, "installed": status.is_whole(), "status": status });
    answer(output, &text.join("\n"), || json!({ "sources": all.iter().map(entry).collect::<Vec<Value>>() }))
}

fn describe(status: &Status) -> String {
    let mut text = match (status.table, status.readable, status.tombstones) {
        (false, ..) => "not installed".to_owned(),
        (true, true, Some(count)) => match status.newest {
            Some(newest) => format!("{count} tombstones, the newest of {}", newest.format("%Y-%m-%d %H:%M:%S UTC")),
            None => format!("{count} tombstones"),
        },
        _ => "the role may not read and remove tombstones: run what `course-gc tombstones install` prints".to_owned(),
    };
    for relation in &status.relations {
        let coverage = match relation.coverage {
            Coverage::Enabled => "recorded",
            Coverage::Disabled => "not recorded, the trigger is disabled",
            Coverage::Missing => "not recorded, there is no trigger",
            Coverage::OtherColumn => "recorded by another column than the one that is configured",
        };
        let _ = write!(text, "\n  deletes from {}: {coverage}", relation.name);
    }
    if status.notifies {
        text.push_str("\n  whoever listens is told at once");
    }
    text
}
