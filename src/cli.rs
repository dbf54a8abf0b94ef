//! The command line: what is asked for, and what is answered. Knows reports and the activator, never a store.

mod cleanup;
mod doctor;
mod health;
mod quarantine;
mod render;
mod tombstones;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use tokio_util::sync::CancellationToken;

use crate::approve::{self, ApproveError, Holds};
use crate::cleanup::CleanupError;
use crate::config::{self, Config, ConfigErrors, Loaded};
use crate::domain::approvals::{BadTerms, Digest, Terms};
use crate::domain::report::Mode;
use crate::errors::chain;
use crate::ledger::{Ledger, Pauses};
use crate::reconcile::{RunError, reconcile};
use crate::reload::{Source, Watch};
use crate::schedule::Due;
use crate::serve::Runs;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::Traces;
use crate::telemetry::{events, subscriber};
use crate::{adopt, app, serve};
use cleanup::CleanupArguments;
use quarantine::{BadUsage, QuarantineCommand, RestoreArguments};
use tombstones::TombstonesCommand;

/// Exit code: something could not be done at all.
const FAILED: u8 = 1;
/// Exit code: wrong usage or configuration.
const USAGE: u8 = 2;
/// Exit code: a gate, or another collector's lock, holds it.
const HELD: u8 = 3;
/// Exit code: partly done.
const PARTLY: u8 = 4;

/// How many runs `status` lists.
const STATUS_RUNS: u32 = 10;

/// Finds what deleted courses left behind in the stores of a course platform, and removes it.
///
/// Exit codes: 0 clean or done, 1 failed (`doctor`: a problem was found), 2 wrong usage or configuration, 3 held, 4 partly done.
#[derive(Debug, Parser)]
#[command(name = "course-gc", version, max_term_width = 100)]
pub struct Cli {
    /// The configuration file.
    #[arg(long, short, global = true, env = "COURSE_GC_CONFIG", default_value = "course-gc.yaml")]
    config: PathBuf,
    /// A table for people, or JSON for programs (described in docs/report.md).
    #[arg(long, short, global = true, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Look and decide, and show what a run would do; no store is changed.
    Plan,
    /// Look, decide and sweep, once.
    Run {
        /// Only if `serve` would begin a run now: the schedule says so, somebody asked, or a recorded death has waited long enough. For
        /// a job that is started every few minutes.
        #[arg(long)]
        due: bool,
        /// End with 0 also where it is held (3), for a scheduler to which anything else is a failure. What waits, and for what, is
        /// in the report, and `holds` shows it.
        #[arg(long)]
        held_is_done: bool,
    },
    /// Run on the schedule, with health and metrics over HTTP, until SIGTERM.
    Serve {
        /// Begin no runs, but say how things stand: for where they are begun by others, as by a CronJob.
        #[arg(long)]
        without_runs: bool,
    },
    /// Ask the `serve` of the same configuration whether its loop makes progress: for healthchecks that start a command.
    Health,
    /// Look at all that the installation needs, from here: connections, rights and no more than those, indexes, settings, clocks, markers, room. Each
    /// finding says what to do. Changes nothing.
    Doctor,
    /// Show the latest runs, and whether deleting is paused.
    Status,
    /// Show what is there: databases, live courses, stores, strangers. With `--yes`: pin the databases, and mark the stores as ours.
    Adopt {
        /// Adopt what is there, whatever changed since it was adopted before.
        #[arg(long)]
        yes: bool,
        /// Confirm that the sources that are declared exclusive hold nobody else's courses.
        #[arg(long, requires = "yes")]
        exclusive: bool,
    },
    /// Show what waits for a person: what breakers hold, what vanished across a break in a database's history, why the last run halted.
    Holds,
    /// Approve what is held under a digest, and nothing besides; recorded with who and why.
    Approve {
        /// The digest, as `plan`, `run` and `holds` show it.
        digest: Digest,
        /// Why; recorded, and not blank.
        #[arg(long)]
        reason: String,
        /// For how long: what is left then is held again. At most 30d.
        #[arg(long = "for", value_name = "DURATION", default_value = "7d", value_parser = humantime::parse_duration)]
        lasts: Duration,
    },
    /// Keep every replica from deleting anything, from its next batch on, until `resume`.
    Pause {
        /// Why; shown in plans and reports.
        #[arg(long)]
        reason: String,
    },
    /// End a pause.
    Resume,
    /// Remove what one deleted course left, in every store: the delete path as a command.
    Cleanup(CleanupArguments),
    /// Show what is left of a course in each store; when that is nothing, evidence that it was erased. Changes nothing.
    Trace {
        /// The course.
        course: String,
    },
    /// Look at what was deleted, and is kept until it expires.
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
    /// Bring back what was deleted, as it was, from quarantine. What exists anew stays, unless told otherwise.
    Restore(RestoreArguments),
    /// Create the ledger's tables, or bring them up to date.
    Migrate,
    /// Record deletes where they happen, so that what is known to be deleted waits less.
    #[command(subcommand)]
    Tombstones(TombstonesCommand),
    /// Show or check the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum ConfigCommand {
    /// Print a documented example.
    Example,
    /// Print the JSON Schema of configuration files, for editors and other tools.
    Schema,
    /// Check the configuration, and print each value with its origin; secrets are not shown.
    Check,
}

/// Does what the command line asks for.
pub async fn main(cli: Cli) -> ExitCode {
    let code = match command(&cli).await {
        Ok(code) => code,
        Err(error) => {
            fail(cli.output, &chain(error.as_ref()));
            exit_code(&error)
        }
    };
    match (cli.command, code) {
        (Command::Run { held_is_done: true, .. }, HELD) => ExitCode::SUCCESS,
        _ => ExitCode::from(code),
    }
}

async fn command(cli: &Cli) -> anyhow::Result<u8> {
    if let Command::Config(ConfigCommand::Example) = cli.command {
        print!("{}", config::example());
        return Ok(0);
    }
    if let Command::Config(ConfigCommand::Schema) = cli.command {
        println!("{:#}", config::schema());
        return Ok(0);
    }
    let loaded = config::load(&cli.config, environment())?;
    if let Command::Config(ConfigCommand::Check) = cli.command {
        app::collector(&loaded.config)?;
        print!("{}", config::check_report(&loaded));
        return Ok(0);
    }
    let config = &loaded.config;
    let traces = config.log.traces_url.as_ref().map(|url| Traces::new(url, &config.installation)).transpose()?;
    subscriber::init(config.log.format, config.log.level, traces.as_ref());
    let code = work(cli, loaded).await;
    if let Some(traces) = traces
        && let Err(error) = traces.end().await
    {
        tracing::warn!(error = chain(&error), "traces");
    }
    code
}

async fn work(cli: &Cli, loaded: Loaded) -> anyhow::Result<u8> {
    let config = &loaded.config;
    match cli.command {
        Command::Plan => activate(cli, config, Mode::Plan).await,
        Command::Run { due, .. } => {
            match if due { serve::due_now(&app::collector(config)?).await? } else { Due::Now } {
                Due::Now => activate(cli, config, Mode::Run).await,
                Due::At(next) => {
                    answer(cli.output, &render::nothing_due(next), || serde_json::json!({ "due": false, "next": next }))
                }
            }
        }
        Command::Serve { without_runs } => {
            let mut serving = app::serving(config, Arc::new(metrics(config)?))?;
            if without_runs {
                serving.runs = Runs::Elsewhere;
            }
            let (listen, metrics, bell) = (config.http.listen, Arc::clone(&serving.metrics), Arc::clone(&serving.bell));
            let source = Source { path: cli.config.clone(), environment: environment().collect(), metrics, bell };
            let mut watch = Watch::new(source, loaded);
            serving.changes = Some(Box::new(move || watch.look()));
            serve::serve(serving, listen, stop_on_signal()?).await?;
            Ok(0)
        }
        Command::Health => health::health(cli.output, config).await,
        Command::Doctor => doctor::doctor(cli.output, config).await,
        Command::Status => status(cli, config).await,
        Command::Adopt { yes: false, .. } => {
            let code = activate(cli, config, Mode::Plan).await?;
            if cli.output == Output::Table {
                println!("\nif these are the right databases and stores: course-gc adopt --yes");
            }
            Ok(code)
        }
        Command::Adopt { exclusive, .. } => {
            let adopted = adopt::adopt(&app::collector(config)?, exclusive).await?;
            let all = adopted.iter().all(|(_, reason)| reason.is_none());
            answer(cli.output, &render::adopted(&adopted), || {
                let store = |(name, reason): &(String, Option<String>)| serde_json::json!({ "store": name, "adopted": reason.is_none(), "reason": reason });
                serde_json::json!({ "stores": adopted.iter().map(store).collect::<Vec<_>>() })
            })?;
            Ok(if all { 0 } else { PARTLY })
        }
        Command::Holds => holds(cli, config).await,
        Command::Approve { digest, ref reason, lasts } => {
            let terms = Terms::new(reason, lasts)?;
            let (hold, approval) = approve::approve(&app::collector(config)?, digest, &terms).await?;
            let json = || serde_json::json!({ "approved": approval, "hold": hold });
            answer(cli.output, &render::approved(&hold, &approval), json)
        }
        Command::Pause { ref reason } => {
            let pause = app::ledger(config)?.pause(reason).await?;
            answer(cli.output, &render::pause(&pause), || serde_json::json!({ "paused": pause }))
        }
        Command::Resume => {
            let ended = app::ledger(config)?.resume().await?;
            let text = if ended.is_some() { "resumed" } else { "there was no pause" };
            answer(cli.output, text, || serde_json::json!({ "resumed": ended }))
        }
        Command::Migrate => {
            app::ledger(config)?.migrate().await?;
            answer(cli.output, "the ledger's tables are up to date", || serde_json::json!({ "migrated": true }))
        }
        Command::Cleanup(ref arguments) => cleanup::cleanup(cli.output, config, arguments, &stop_on_signal()?).await,
        Command::Trace { ref course } => cleanup::trace(cli.output, config, course).await,
        Command::Quarantine(ref command) => quarantine::quarantine(cli.output, config, command).await,
        Command::Restore(ref arguments) => quarantine::restore(cli.output, config, arguments).await,
        Command::Tombstones(command) => tombstones::tombstones(cli.output, config, command).await,
        Command::Config(_) => Ok(0),
    }
}

/// One activation from the command line.
async fn activate(cli: &Cli, config: &Config, mode: Mode) -> anyhow::Result<u8> {
    let collector = app::collector(config)?;
    let metrics = metrics(config)?;
    let report = reconcile(&collector, mode, &stop_on_signal()?).await?;
    events::run_finished(&metrics, &report);
    answer(cli.output, &render::report(&report), || serde_json::to_value(&report).unwrap_or_default())?;
    Ok(report.verdict.exit_code())
}

async fn status(cli: &Cli, config: &Config) -> anyhow::Result<u8> {
    let ledger = app::ledger(config)?;
    ledger.check_version().await?;
    let runs = ledger.latest(STATUS_RUNS, cli.output == Output::Json).await?;
    let paused = ledger.paused().await?;
    answer(
        cli.output,
        &render::status(&runs, paused.as_ref()),
        || serde_json::json!({ "paused": paused, "runs": runs }),
    )
}

async fn holds(cli: &Cli, config: &Config) -> anyhow::Result<u8> {
    let Holds { holds, approvals } = approve::holds(&app::collector(config)?).await?;
    let json = || serde_json::json!({ "holds": holds, "approvals": approvals });
    answer(cli.output, &render::holds(&holds, &approvals), json)?;
    Ok(if holds.is_empty() { 0 } else { HELD })
}

fn answer(output: Output, text: &str, json: impl FnOnce() -> serde_json::Value) -> anyhow::Result<u8> {
    match output {
        Output::Table => println!("{text}"),
        Output::Json => println!("{:#}", json()),
    }
    Ok(0)
}

fn fail(output: Output, message: &str) {
    eprintln!("course-gc: {message}");
    if output == Output::Json {
        println!("{:#}", serde_json::json!({ "error": message }));
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<ConfigErrors>()
        || error.is::<app::AssemblyError>()
        || error.is::<BadTerms>()
        || error.is::<BadUsage>()
    {
        return USAGE;
    }
    match error.downcast_ref::<RunError>() {
        Some(RunError::Locked(_) | RunError::Misplaced(_)) => HELD,
        Some(RunError::Stopped) => PARTLY,
        _ if matches!(error.downcast_ref(), Some(ApproveError::Changed(_))) => HELD,
        _ if matches!(error.downcast_ref(), Some(CleanupError::Live(_))) => HELD,
        _ => FAILED,
    }
}

/// A token that SIGTERM or SIGINT cancels; a second signal ends the process the hard way.
fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let token = stop.clone();
    tokio::spawn(async move {
        for asked in 0u8.. {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if asked == 0 {
                tracing::info!("stopping after the batch in hand");
                token.cancel();
            } else {
                tracing::warn!("stopping at once; the next run goes on from the ledger");
                std::process::exit(FAILED.into());
            }
        }
    });
    Ok(stop)
}

fn metrics(config: &Config) -> anyhow::Result<Metrics> {
    let stores: Vec<(&str, &str)> = config.stores.iter().map(|(name, store)| (name, store.kind())).collect();
    Ok(Metrics::new(&stores)?)
}

/// The environment, for the configuration alone; variables that are no text cannot be meant.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}
