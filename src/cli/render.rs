//! Reports as tables for people.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

use crate::adopt::Adopted;
use crate::domain::approvals::HoldKind;
use crate::domain::holds::HoldReport;
use crate::domain::plan::{Decision, Hold};
use crate::domain::report::{Mode, OrphanReport, QuarantineReport, RunReport, SourceReport, StoreReport, Tally};
use crate::ledger::{Approval, Pause, RunSummary};

/// How many orphans are listed one by one.
const LISTED: usize = 20;

/// A run or a plan: what was seen, what is to go or went, what stays and why.
pub(super) fn report(report: &RunReport) -> String {
    let mut text = String::new();
    let live = report.live.last().map_or(0, |live| live.live);
    let what = report.mode.as_str();
    let _ = writeln!(text, "{what} {} of {}: {live} live courses", report.run, report.installation);
    for live in &report.live {
        if let Some(identity) = &live.identity {
            let system = identity.system.as_deref().unwrap_or("not told by the server");
            let relations: Vec<&str> = identity.relations.iter().map(|relation| relation.name.as_str()).collect();
            let (database, relations) = (&identity.database, relations.join(", "));
            let _ = writeln!(
                text,
                "  {}: {} in database {database} of cluster {system}, from {relations}",
                live.source, live.live
            );
        }
    }
    for live in &report.live {
        if let Some(error) = &live.tombstones_error {
            let _ = writeln!(text, "tombstones of {} are no evidence: {error}", live.source);
        }
    }
    if let Some(halt) = &report.halt {
        let _ = writeln!(text, "halted, no store was touched: {halt}");
    }
    if let Some(reason) = &report.paused {
        let _ = writeln!(text, "paused, nothing is deleted until `course-gc resume`: {reason}");
    }
    if !report.stores.is_empty() {
        let _ = writeln!(text, "\n{}", sources(report));
        let _ = write!(text, "\n{}", orphans(report));
    }
    for store in &report.stores {
        problems(&mut text, store);
    }
    if let Some(quarantine) = &report.quarantine {
        kept(&mut text, quarantine);
    }
    // What halted has said so, with its command.
    if report.halts.is_empty() && !report.holds.is_empty() {
        let _ = write!(text, "\n{}", all_holds(&report.holds));
    }
    let _ = write!(text, "\n{}", conclusion(report));
    text
}

/// What waits for a person, and the approvals in force.
pub(super) fn holds(holds: &[HoldReport], approvals: &[Approval]) -> String {
    let mut text = all_holds(holds);
    if holds.is_empty() {
        text.push_str("nothing is held that a person could approve\n");
    }
    for approval in approvals {
        let _ = write!(text, "\n{}", in_force(approval));
    }
    text.trim_end().to_owned()
}

/// What was approved.
pub(super) fn approved(hold: &HoldReport, approval: &Approval) -> String {
    let why = hold.why.join("; ");
    format!("{}\n  {why}\nthe next run goes by it; all gates but the one approved stay", in_force(approval))
}

fn in_force(approval: &Approval) -> String {
    let Approval { digest, kind, reason, approved_by, until, covers, .. } = approval;
    let what = match kind {
        HoldKind::Breakers | HoldKind::Discontinuity => format!("{covers} orphans"),
        HoldKind::Halt => "the size of the live set".to_owned(),
    };
    format!("approved {digest} ({what}) by {approved_by} until {}: {reason}", until.format("%Y-%m-%d %H:%M:%S UTC"))
}

/// Each hold, and how to approve it. What breakers hold comes first as a whole; of the stores in it, one line is enough.
fn all_holds(holds: &[HoldReport]) -> String {
    let (mut texts, mut stores): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    let mut whole = None;
    for hold in holds {
        match (&hold.digest, whole) {
            (Some(digest), Some(_)) if hold.kind == HoldKind::Breakers => {
                stores.push(format!("{} {digest} ({} orphans)", hold.stores.join(", "), hold.orphans));
            }
            _ => {
                if hold.kind == HoldKind::Breakers {
                    whole = Some(texts.len());
                }
                texts.push(one_hold(hold));
            }
        }
    }
    if let Some(text) = whole.and_then(|whole| texts.get_mut(whole)).filter(|_| !stores.is_empty()) {
        let _ = writeln!(text, "  or one store alone: {}", stores.join(", "));
    }
    texts.join("\n")
}

/// A hold, and how to approve it.
fn one_hold(hold: &HoldReport) -> String {
    let mut text = match &hold.digest {
        Some(digest) => format!("held {digest}"),
        None => "held".to_owned(),
    };
    if hold.kind != HoldKind::Halt {
        let bytes = hold.bytes.map_or("size unknown".to_owned(), |bytes| format!("{bytes} bytes known"));
        let HoldReport { orphans, courses, resources, stores, .. } = hold;
        let stores = stores.join(", ");
        let _ = write!(text, ": {orphans} orphans of {courses} courses in {stores}, {resources} resources ({bytes})");
    }
    text.push('\n');
    for why in &hold.why {
        let _ = writeln!(text, "  {why}");
    }
    if !hold.samples.is_empty() {
        let shown = hold.samples.len() as u64;
        let more = if hold.orphans > shown { format!(", and {} more", hold.orphans - shown) } else { String::new() };
        let _ = writeln!(text, "  {}{more}", hold.samples.join(", "));
    }
    let _ = match &hold.command {
        Some(command) => writeln!(text, "  if that is right: {command}"),
        None => writeln!(text, "  this cannot be approved: an empty answer is never taken for the truth"),
    };
    text
}

/// What was adopted, and what was not.
pub(super) fn adopted(adopted: &Adopted) -> String {
    let line = |(store, reason): &(String, Option<String>)| match reason {
        None => format!("store {store}: adopted"),
        Some(reason) => format!("store {store}: not adopted: {reason}"),
    };
    adopted.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A pause that is in force.
pub(super) fn pause(pause: &Pause) -> String {
    let since = pause.paused_at.format("%Y-%m-%d %H:%M:%S UTC");
    format!("paused by {} since {since}: {}", pause.paused_by, pause.reason)
}

/// What `run --due` says when it has nothing to do.
pub(super) fn nothing_due(next: DateTime<Utc>) -> String {
    let next = next.format("%Y-%m-%d %H:%M:%S UTC");
    format!(
        "nothing is due: no request waits for a run, no recorded death either, and the schedule's next one comes at {next}"
    )
}

/// The latest runs, and a pause if one is in force.
pub(super) fn status(runs: &[RunSummary], paused: Option<&Pause>) -> String {
    let paused = paused.map(|paused| format!("{}\n\n", pause(paused))).unwrap_or_default();
    if runs.is_empty() {
        return format!("{paused}no run yet");
    }
    let mut table = table(&["started", "what", "took", "verdict", "run"]);
    for run in runs {
        let took =
            run.finished_at.map_or("?".to_owned(), |end| format!("{} ms", (end - run.started_at).num_milliseconds()));
        let verdict = run.verdict.clone().unwrap_or_else(|| "cut off, or under way".to_owned());
        let started = run.started_at.format("%Y-%m-%d %H:%M:%S UTC").to_string();
        table.add_row([started, run.mode.clone(), took, verdict, run.run.to_string()]);
    }
    format!("{paused}{table}")
}

pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    let style = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));
    table.load_style(style).set_header(header.iter().copied());
    table
}

/// One line a source.
fn sources(report: &RunReport) -> Table {
    let ran = report.mode == Mode::Run;
    let mut header = vec!["store", "source", "live courses", "orphans", if ran { "swept" } else { "to sweep" }, "held"];
    header.extend(["bytes", "unrecognised"]);
    if ran {
        header.push("deleted");
    }
    let mut table = table(&header);
    for store in &report.stores {
        for source in &store.sources {
            let mut row = vec![
                store.name.clone(),
                source.name.clone(),
                source.live_courses.to_string(),
                source.orphans.len().to_string(),
                source.sweeps().to_string(),
                held(source),
                size(source),
                source.unrecognised.count.to_string(),
            ];
            if ran {
                row.push(source.swept.deleted.to_string());
            }
            table.add_row(row);
        }
        if !store.complete {
            table.add_row([store.name.as_str(), "incomplete: not judged, not touched"]);
        }
    }
    for column in [2, 3, 4, 6, 7, 8] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn held(source: &SourceReport) -> String {
    let held: Vec<String> = source.held().iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    held.join(", ")
}

/// The size of a source's orphans: as the store tells it, or by a sample with its standard error.
fn size(source: &SourceReport) -> String {
    let known: u64 = source.orphans.iter().filter_map(|orphan| orphan.bytes).sum();
    match (source.unsized_resources(), source.estimate) {
        (0, _) => known.to_string(),
        (_, Some(estimate)) => format!("{} ± {}", known.saturating_add(estimate.bytes), estimate.standard_error),
        (_, None) => "unknown".to_owned(),
    }
}

/// The first few orphans, those that go before those that stay.
fn orphans(report: &RunReport) -> String {
    let each = |store: &'_ StoreReport| -> Vec<(String, OrphanReport)> {
        let place = |source: &SourceReport| format!("{}/{}", store.name, source.name);
        let of = |source: &SourceReport| {
            let place = place(source);
            source.orphans.iter().map(|orphan| (place.clone(), orphan.clone())).collect::<Vec<_>>()
        };
        store.sources.iter().flat_map(of).collect()
    };
    let mut all: Vec<(String, OrphanReport)> = report.stores.iter().flat_map(each).collect();
    if all.is_empty() {
        return "no orphans\n".to_owned();
    }
    all.sort_by_key(|(_, orphan)| !orphan.decision.sweeps());
    let mut table = table(&["course", "where", "evidence", "resources", "decision"]);
    for (place, orphan) in all.iter().take(LISTED) {
        table.add_row([
            orphan.course.to_string(),
            place.clone(),
            orphan.evidence.as_str().to_owned(),
            orphan.resources.to_string(),
            decision(orphan.decision),
        ]);
    }
    let more = all.len().saturating_sub(LISTED);
    let more = if more > 0 { format!("and {more} more (`--output json` lists all)\n") } else { String::new() };
    format!("{table}\n{more}")
}

fn decision(decision: Decision) -> String {
    match decision {
        Decision::Sweep => "sweep".to_owned(),
        Decision::SweepExcept { entangled, referenced: 0 } => {
            format!("sweep, but for {entangled} that name a live course too")
        }
        Decision::SweepExcept { entangled: 0, referenced } => {
            format!("sweep, but for {referenced} that something alive refers to")
        }
        Decision::SweepExcept { entangled, referenced } => format!(
            "sweep, but for {entangled} that name a live course too, and {referenced} that something alive refers to"
        ),
        Decision::Held(Hold::Grace { left_seconds }) => {
            let left = std::time::Duration::from_secs(left_seconds);
            format!("held: grace, {} left", humantime::format_duration(left))
        }
        Decision::Held(hold) => format!("held: {}", hold.in_words()),
    }
}

fn problems(text: &mut String, store: &StoreReport) {
    let name = &store.name;
    if let Some(reason) = &store.not_adopted {
        let _ = writeln!(text, "store {name} is not ours, nothing of it is deleted: {reason}");
    }
    if let Some(error) = &store.error {
        let _ = writeln!(text, "store {name}: {error}");
    }
    for failure in &store.failures {
        let _ = writeln!(text, "store {name}: {failure}");
    }
    for course in &store.live_after_delete {
        let _ = writeln!(text, "ALERT, store {name}: course {course} is live, and its resources were just deleted");
    }
    if store.put_back > 0 {
        let _ = writeln!(text, "store {name}: {} resources of live courses were put back", store.put_back);
    }
    for source in store.sources.iter().filter(|source| source.unrecognised.count > 0) {
        let unrecognised = &source.unrecognised;
        let samples = unrecognised.samples.join("  ");
        let _ =
            writeln!(text, "unrecognised in {name}/{}: {}, never deleted: {samples}", source.name, unrecognised.count);
    }
}

/// What is in quarantine, if anything is or was.
fn kept(text: &mut String, quarantine: &QuarantineReport) {
    let QuarantineReport { copies, bytes, purged, reclaimed_bytes, live_again, errors } = quarantine;
    if copies + purged > 0 {
        let _ = writeln!(
            text,
            "quarantine before this sweep: {copies} copies, {bytes} bytes; {purged} expired and were purged, {reclaimed_bytes} bytes"
        );
    }
    for course in live_again {
        let _ =
            writeln!(text, "ALERT, quarantine: course {course} is live again; its copy is kept (`course-gc restore`)");
    }
    for error in errors {
        let _ = writeln!(text, "quarantine, {error}");
    }
}

fn conclusion(report: &RunReport) -> String {
    let Tally { deleted, bytes, absent, failed, unattempted, spared } = report.swept();
    let to_sweep: u64 = report.stores.iter().flat_map(|store| &store.sources).map(SourceReport::sweeps).sum();
    let took = format!("{:.1} s", report.seconds);
    let verdict = report.verdict.as_str();
    match report.mode {
        Mode::Plan => format!("{verdict}: {to_sweep} orphans to sweep; nothing was changed; took {took}"),
        Mode::Run => format!(
            "{verdict}: {deleted} resources deleted ({bytes} bytes known), {absent} already absent, {failed} failed, \
             {unattempted} unattempted, {spared} spared; took {took}"
        ),
    }
}
