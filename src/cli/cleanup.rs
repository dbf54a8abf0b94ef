//! `course-gc cleanup` and `course-gc trace`: the delete path of one course, and what is left of it.

use std::fmt::Write;

use clap::Args;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::quarantine::BadUsage;
use super::render::table;
use super::{HELD, Output, PARTLY, answer};
use crate::app;
use crate::cleanup::{self, Call, Haste};
use crate::config::Config;
use crate::domain::cleanup::{Cleanup, Request, Timing, Trace};
use crate::domain::ids::{CourseId, IdType};

#[derive(Debug, Clone, Args)]
pub(super) struct CleanupArguments {
    /// The course.
    course: String,
    /// The course's row is still there, and is about to go: only count now, and remove what it left as soon as the row is gone.
    #[arg(long)]
    before_delete: bool,
}

/// A course id as the configuration says.
pub(super) fn course(id_type: IdType, text: &str) -> Result<CourseId, BadUsage> {
    let why = || BadUsage::new(format!("`{text}` is no course id as course_id says; write it in its canonical form"));
    id_type.parse(text.as_bytes()).ok_or_else(why)
}

pub(super) async fn cleanup(
    output: Output,
    config: &Config,
    arguments: &CleanupArguments,
    stop: &CancellationToken,
) -> anyhow::Result<u8> {
    let collector = app::collector(config)?;
    let timing = if arguments.before_delete { Timing::BeforeDelete } else { Timing::AfterDelete };
    let course = course(collector.id_type, &arguments.course)?;
    let call = Call { course, timing, haste: Haste::WithTheRow, by: "command line".to_owned(), key: None };
    let request = cleanup::cleanup_course_resources(&collector, &call, stop).await?;
    answer(output, &told(&request), || json!(request))?;
    let (verified, success) = request.answer.as_ref().map_or((false, true), |answer| (answer.verified, answer.success));
    Ok(match (verified, success) {
        (true, _) => 0,
        (false, true) => PARTLY,
        (false, false) => HELD,
    })
}

fn told(request: &Request) -> String {
    let Request { id, course_id, state, answer, .. } = request;
    let mut text = format!("course {course_id}: request {id} is {}", state.as_str());
    let Some(Cleanup { verified, pending, stores, .. }) = answer else { return text };
    if !stores.is_empty() {
        let mut table = table(&["store", "found", "deleted", "absent", "held", "kept", "failed", "bytes", "left"]);
        for store in stores {
            let held: u64 = store.held.values().sum();
            let left = store.remaining.map_or_else(|| "unknown".to_owned(), |left| left.to_string());
            let counts = [store.found, store.deleted, store.absent, held, store.kept, store.failed, store.bytes];
            table.add_row([store.store.clone()].into_iter().chain(counts.map(|count| count.to_string())).chain([left]));
        }
        let _ = write!(text, "\n{table}");
    }
    for pending in pending {
        let of = pending.store.as_ref().map(|store| format!("store {store}: ")).unwrap_or_default();
        let much = pending.resources.map(|resources| format!("{resources} left: ")).unwrap_or_default();
        let _ = write!(text, "\n{of}{much}{}", pending.detail);
    }
    text.push_str(if *verified { "\nnothing of it is left" } else { "" });
    text
}

pub(super) async fn trace(output: Output, config: &Config, text: &str) -> anyhow::Result<u8> {
    let collector = app::collector(config)?;
    let trace = cleanup::trace(&collector, course(collector.id_type, text)?).await?;
    answer(output, &found(&trace), || json!(trace))?;
    Ok(if trace.empty { 0 } else { PARTLY })
}

fn found(trace: &Trace) -> String {
    let Trace { course_id, live, empty, stores, quarantined, quarantine_errors, looked_at } = trace;
    let state = if *live { "is live" } else { "is not live" };
    let mut text = format!("course {course_id} {state} ({})", looked_at.format("%F %T UTC"));
    if *empty {
        text.push_str("\nnothing of it is in any store");
    }
    let sources = stores.iter().flat_map(|store| store.sources.iter().map(move |source| (&store.store, source)));
    let mut table = table(&["where", "resources", "for example"]);
    for (store, source) in sources {
        let place = format!("{store}/{}", source.source);
        table.add_row([place, source.resources.to_string(), source.samples.join("\n")]);
    }
    if !table.is_empty() {
        let _ = write!(text, "\n{table}");
    }
    for store in stores {
        if let Some(error) = &store.error {
            let _ = write!(text, "\nstore {}: unknown: {error}", store.store);
        }
    }
    for copy in quarantined {
        let until = copy.expires_at.format("%F %T UTC");
        let _ = write!(
            text,
            "\nin quarantine until {until}: {} of store {} (run {})",
            copy.resources, copy.store, copy.run
        );
    }
    for error in quarantine_errors {
        let _ = write!(text, "\nquarantine: unknown: {error}");
    }
    text
}
