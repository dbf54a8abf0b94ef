//! Where log lines go: to standard error, as text for people or as one JSON object a line.
//!
//! This program's own lines are kept from the configured level up, those of libraries from `warn` up (and never below the
//! configured level). The environment is not asked: the level is in the configuration.

use std::io::{IsTerminal, stderr};

use tracing::{Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::{MakeWriter, layer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogFormat;

/// From now on, logs to standard error. If the process logs already, nothing changes.
pub fn init(format: LogFormat, level: Level) {
    // The one error is that there is a subscriber already, and it stays.
    let _ = subscriber(format, level, stderr, stderr().is_terminal()).try_init();
}

/// A subscriber that writes to `writer`; `colours` are for text only.
pub(super) fn subscriber<W>(
    format: LogFormat,
    level: Level,
    writer: W,
    colours: bool,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let libraries = LevelFilter::from_level(level.min(Level::WARN));
    let filter = Targets::new().with_default(libraries).with_target(env!("CARGO_CRATE_NAME"), level);
    let lines = registry().with(filter);
    match format {
        LogFormat::Text => Box::new(lines.with(layer().with_writer(writer).with_ansi(colours))),
        LogFormat::Json => {
            Box::new(lines.with(layer().json().flatten_event(true).with_current_span(false).with_writer(writer)))
        }
    }
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
    fn libraries_never_say_more_than_warnings() {
        let said =
            |level| written(LogFormat::Text, level).iter().map(|line| line.contains("theirs")).collect::<Vec<_>>();
        assert_eq!(said(Level::DEBUG), [false, false, false, true]);
        assert_eq!(said(Level::ERROR), [false]);
    }

    #[test]
    fn a_second_start_changes_nothing() {
        init(LogFormat::Text, Level::ERROR);
        init(LogFormat::Json, Level::TRACE);
        assert!(tracing::enabled!(target: "course_gc", Level::ERROR));
        assert!(!tracing::enabled!(target: "course_gc", Level::INFO));
    }
}
