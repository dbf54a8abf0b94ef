//! `course-gc quarantine` and `course-gc restore`: what was deleted, looked at and brought back.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use uuid::Uuid;

use super::cleanup::course;
use super::{HELD, Output, PARTLY, answer};
use crate::app;
use crate::config::Config;
use crate::domain::ids::IdType;
use crate::errors::chain;
use crate::quarantine::{Copy, Listing};
use crate::reconcile::Collector;
use crate::reconcile::restore::{self, Restored, Selection};
use crate::stores::copies::Restoring;

/// What was asked for makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct BadUsage(String);

impl BadUsage {
    pub(super) fn new(what: String) -> Self {
        Self(what)
    }
}

fn bad<T>(what: &str) -> anyhow::Result<T> {
    Err(BadUsage(what.to_owned()).into())
}

/// How many lines a table has at most; JSON has all.
const LISTED: usize = 50;

#[derive(Debug, Clone, Args)]
pub(super) struct Which {
    /// The copies of this run.
    #[arg(long)]
    run: Option<Uuid>,
    /// The copies of this course.
    #[arg(long)]
    course: Option<String>,
    /// The copies of this store.
    #[arg(long)]
    store: Option<String>,
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum QuarantineCommand {
    /// List the copies of what was deleted, and until when they are kept.
    List(Which),
    /// Show what copies hold, resource by resource, and whether it is missing from its store.
    Show(Which),
    /// Read copies whole, and compare them with their checksums.
    Verify(Which),
    /// Remove copies for good before they expire, except for those in which a live course is named.
    Purge {
        #[command(flatten)]
        which: Which,
        /// Really.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Clone, Args)]
pub(super) struct RestoreArguments {
    #[command(flatten)]
    which: Which,
    /// Say what would be restored, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Put everything back as it was copied, also in place of what exists anew.
    #[arg(long, conflicts_with = "dry_run")]
    overwrite: bool,
    /// For how long nothing of these courses goes. At most 30d.
    #[arg(long = "exempt-for", value_name = "DURATION", default_value = "7d", value_parser = humantime::parse_duration)]
    exempt: Duration,
}

impl Which {
    fn selection(&self, id_type: IdType) -> anyhow::Result<Selection> {
        let course = self.course.as_ref().map(|text| course(id_type, text)).transpose()?;
        Ok(Selection { run: self.run, course, store: self.store.clone() })
    }

    fn is_all(&self) -> bool {
        self.run.is_none() && self.course.is_none() && self.store.is_none()
    }
}

pub(super) async fn quarantine(output: Output, config: &Config, command: &QuarantineCommand) -> anyhow::Result<u8> {
    let collector = app::collector(config)?;
    match command {
        QuarantineCommand::List(which) => list(output, &collector, &which.selection(collector.id_type)?).await,
        QuarantineCommand::Show(which) => {
            let selection = which.selection(collector.id_type)?;
            let restored = restore::restore(&collector, &selection, Restoring::Look, Duration::ZERO).await?;
            tell(output, &restored, "missing from its store")
        }
        QuarantineCommand::Verify(which) => verify(output, &collector, &which.selection(collector.id_type)?).await,
        QuarantineCommand::Purge { which, yes } => {
            let selection = which.selection(collector.id_type)?;
            if !yes {
                list(output, &collector, &selection).await?;
                return bad("this cannot be undone: say --yes if these copies are to be removed for good");
            }
            let purged = restore::purge(&collector, &selection).await?;
            let mut text = format!("{} copies purged, {} bytes", purged.copies, purged.bytes);
            for course in &purged.live {
                let _ = write!(text, "\ncourse {course} is live: what names it stays");
            }
            purged.errors.iter().for_each(|error| _ = write!(text, "\n{error}"));
            answer(output, &text, || json!(purged))?;
            Ok(match (purged.errors.is_empty(), purged.live.is_empty()) {
                (false, _) => PARTLY,
                (true, false) => HELD,
                (true, true) => 0,
            })
        }
    }
}

pub(super) async fn restore(output: Output, config: &Config, arguments: &RestoreArguments) -> anyhow::Result<u8> {
    if arguments.exempt > restore::EXEMPT_LONGEST {
        return bad("--exempt-for is at most 30d; a course that is to stay belongs into the database");
    }
    if arguments.which.is_all() {
        return bad("say what to restore: --run, --course or --store (`course-gc quarantine list`)");
    }
    let collector = app::collector(config)?;
    let restoring = match (arguments.dry_run, arguments.overwrite) {
        (true, _) => Restoring::Look,
        (false, true) => Restoring::Overwrite,
        (false, false) => Restoring::Missing,
    };
    let selection = arguments.which.selection(collector.id_type)?;
    let restored = restore::restore(&collector, &selection, restoring, arguments.exempt).await?;
    tell(output, &restored, if arguments.dry_run { "would be restored" } else { "restored" })
}

/// Each resource, and the sums.
fn tell(output: Output, restored: &Restored, word: &str) -> anyhow::Result<u8> {
    let mut text = String::new();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for (n, item) in restored.items.iter().enumerate() {
        *counts.entry(item.outcome).or_default() += 1;
        if n < LISTED || item.failed() {
            let outcome = if item.outcome == "restored" { word } else { item.outcome };
            let cause = item.cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default();
            let _ = writeln!(text, "{} {} of {}: {outcome}{cause}", item.store, item.name, item.course);
        }
    }
    if restored.items.len() > LISTED {
        let _ = writeln!(text, "… of {}; --output json lists all", restored.items.len());
    }
    restored.errors.iter().for_each(|error| _ = writeln!(text, "{error}"));
    let count = |outcome| counts.get(outcome).copied().unwrap_or(0);
    let _ = write!(text, "{} {word}, {} exist, {} failed", count("restored"), count("exists"), count("failed"));
    answer(output, &text, || json!(restored))?;
    let whole = restored.errors.is_empty() && count("failed") == 0;
    Ok(if whole { 0 } else { PARTLY })
}

async fn list(output: Output, collector: &Collector, selection: &Selection) -> anyhow::Result<u8> {
    let listing = restore::copies(collector, selection).await;
    let mut text = String::new();
    for copy in listing.copies.iter().take(LISTED) {
        let (resources, bytes) = amount(copy);
        let (until, courses) = (copy.id.expires_at.format("%Y-%m-%d %H:%M UTC"), copy.courses.len());
        let _ = writeln!(
            text,
            "{} run {}: {resources} resources of {courses} courses, {bytes} bytes, until {until}",
            copy.store, copy.id
        );
    }
    if listing.copies.len() > LISTED {
        let _ = writeln!(text, "… of {}; --output json lists all", listing.copies.len());
    }
    listing.errors.iter().for_each(|(of, error)| _ = writeln!(text, "{of}: {error}"));
    let _ = write!(text, "{} copies, which take {} bytes", listing.copies.len(), taken(&listing));
    let copies = || listing.copies.iter().map(shown).collect::<Vec<Value>>();
    answer(output, &text, || json!({ "copies": copies(), "bytes": taken(&listing), "errors": listing.errors }))?;
    Ok(if listing.errors.is_empty() { 0 } else { PARTLY })
}

async fn verify(output: Output, collector: &Collector, selection: &Selection) -> anyhow::Result<u8> {
    let listing = restore::copies(collector, selection).await;
    let mut bad: BTreeMap<String, String> = listing.errors.clone();
    for copy in &listing.copies {
        if let Err(error) = collector.quarantine.verify(copy).await {
            bad.insert(format!("{} run {}", copy.store, copy.id), chain(&error));
        }
    }
    let mut text = String::new();
    bad.iter().for_each(|(of, error)| _ = writeln!(text, "{of}: {error}"));
    let _ = write!(text, "{} copies read, {} cannot be used", listing.copies.len(), bad.len());
    answer(output, &text, || json!({ "copies": listing.copies.len(), "unusable": bad }))?;
    Ok(if bad.is_empty() { 0 } else { PARTLY })
}

fn amount(copy: &Copy) -> (u64, u64) {
    copy.courses.values().fold((0, 0), |sum, held| (sum.0 + held.0, sum.1 + held.1))
}

fn taken(listing: &Listing) -> u64 {
    listing.copies.iter().map(|copy| copy.bytes).sum()
}

fn shown(copy: &Copy) -> Value {
    let courses: BTreeMap<String, Value> = copy
        .courses
        .iter()
        .map(|(course, (resources, bytes))| (course.to_string(), json!({ "resources": resources, "bytes": bytes })))
        .collect();
    json!({
        "store": copy.store,
        "run": copy.id.run,
        "batch": copy.id.batch,
        "taken_at": copy.id.taken_at,
        "expires_at": copy.id.expires_at,
        "in_place": copy.is_in_place(),
        "bytes": copy.bytes,
        "courses": courses,
    })
}
