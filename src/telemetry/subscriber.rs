//! Where log lines go: to standard error, as text for people or as one JSON object a line.
//!
//! This program's own lines are kept from the configured level up, those of libraries from `warn` up (and never below the
//! configured level). The environment is not asked: the level is in the configuration.
//!
//! Where a line was written tells of which run, stage and store it is: spans have these, and are there at every level.

use std::fmt;
use std::io::{IsTerminal, stderr};

use serde_json::{Map, Value};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::VisitOutput;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{JsonFields, JsonVisitor, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter, layer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, registry};

use super::traces::Traces;
use crate::config::LogFormat;

/// From now on, logs to standard error, and hands spans to `traces`. If the process logs already, nothing changes.
pub fn init(format: LogFormat, level: Level, traces: Option<&Traces>) {
    let lines = subscriber(format, level, stderr, stderr().is_terminal());
    // The one error is that there is a subscriber already, and it stays.
    let _ = match traces {
        Some(traces) => lines.with(traces.layer()).try_init(),
        // A layer that is none would be interested in everything.
        None => lines.try_init(),
    };
}

/// A subscriber that writes to `writer`; `colours` are for text only.
pub(super) fn subscriber<W>(
    format: LogFormat,
    level: Level,
    writer: W,
    colours: bool,
) -> impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let libraries = LevelFilter::from_level(level.min(Level::WARN));
    let filter = Targets::new().with_default(libraries).with_target(env!("CARGO_CRATE_NAME"), level);
    let lines = match format {
        LogFormat::Text => layer().with_writer(writer).with_ansi(colours).boxed(),
        LogFormat::Json => {
            layer().fmt_fields(JsonFields::new()).event_format(JsonLine).with_ansi(false).with_writer(writer).boxed()
        }
    };
    registry().with(lines.with_filter(filter))
}

/// A line as one flat object: what was said, and of which run, stage and store, as the spans around it tell.
struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = Map::new();
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        line.insert("timestamp".to_owned(), time.into());
        line.insert("level".to_owned(), event.metadata().level().as_str().into());
        let mut fields = String::new();
        let mut visitor = JsonVisitor::new(&mut fields);
        event.record(&mut visitor);
        visitor.finish()?;
        line.extend(object(&fields));
        line.insert("target".to_owned(), event.metadata().target().into());
        // The innermost first: what it says holds.
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<N>>().map(|fields| object(fields)).unwrap_or_default();
            if fields.is_empty() {
                line.entry("stage").or_insert_with(|| span.name().into());
            }
            for (name, value) in fields {
                line.entry(name).or_insert(value);
            }
        }
        writeln!(writer, "{}", Value::Object(line))
    }
}

fn object(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use tracing::subscriber::with_default;

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that are written while `act` acts.
    pub fn lines(format: LogFormat, level: Level, act: impl FnOnce()) -> Vec<String> {
        let page = Page::default();
        let writer = page.clone();
        with_default(subscriber(format, level, move || writer.clone(), false), act);
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    /// What is written when the program and a library log lines of several levels.
    fn written(format: LogFormat, level: Level) -> Vec<String> {
        lines(format, level, || {
            tracing::error!(run = 7, "ours, an error");
            tracing::info!(run = 7, "ours, a piece of news");
            tracing::debug!("ours, a detail");
            tracing::warn!(target: "sqlx::query", "theirs, a warning");
            tracing::info!(target: "sqlx::query", "theirs, a piece of news");
        })
    }

    #[test]
    fn text_names_level_message_and_fields() {
        let lines = written(LogFormat::Text, Level::INFO);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0].contains("ERROR") && lines[0].ends_with("ours, an error run=7"), "{}", lines[0]);
        assert!(lines[2].contains("theirs, a warning"), "{}", lines[2]);
    }

    #[test]
    fn json_is_one_object_a_line() {
        let lines = written(LogFormat::Json, Level::INFO);
        let objects: Vec<serde_json::Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(objects.len(), 3);
        assert_eq!((&objects[0]["level"], &objects[0]["run"]), (&"ERROR".into(), &7.into()));
        assert_eq!(objects[1]["message"], "ours, a piece of news");
    }

    #[test]
    fn a_line_tells_of_which_run_stage_and_store_it_is_at_every_level() {
        let written = |format| {
            lines(format, Level::WARN, || {
                let _run = tracing::error_span!(target: "course_gc", "run", run = 7, mode = "plan").entered();
                let _stage = tracing::error_span!(target: "course_gc", "inventory").entered();
                let _store = tracing::error_span!(target: "course_gc", "store", store = "cache").entered();
                tracing::warn!(target: "course_gc", error = "no answer", "incomplete");
                tracing::warn!(target: "course_gc", store = "another", "it says so itself");
            })
        };
        let text = written(LogFormat::Text);
        assert!(text[0].contains("run{run=7 mode=\"plan\"}:inventory:store{store=\"cache\"}"), "{text:?}");
        let json = written(LogFormat::Json);
        let line: serde_json::Value = serde_json::from_str(&json[0]).unwrap();
        let told = ["run", "stage", "store", "error", "message"].map(|name| line[name].clone());
        let expected = serde_json::json!([7, "inventory", "cache", "no answer", "incomplete"]);
        assert_eq!(serde_json::Value::from(told.to_vec()), expected);
        let line: serde_json::Value = serde_json::from_str(&json[1]).unwrap();
        assert_eq!(line["store"], "another");
    }

    #[test]
    fn libraries_never_say_more_than_warnings() {
        let said =
            |level| written(LogFormat::Text, level).iter().map(|line| line.contains("theirs")).collect::<Vec<_>>();
        assert_eq!(said(Level::DEBUG), [false, false, false, true]);
        assert_eq!(said(Level::ERROR), [false]);
    }

    #[test]
    fn a_second_start_changes_nothing() {
        init(LogFormat::Text, Level::ERROR, None);
        init(LogFormat::Json, Level::TRACE, None);
        assert!(tracing::enabled!(target: "course_gc", Level::ERROR));
        assert!(!tracing::enabled!(target: "course_gc", Level::INFO));
    }
}
