//! A configuration that changes while it is served: looked for, judged, and made into what takes the place of the old one.
//!
//! - Files are read and compared, every few seconds. Kubernetes mounts by a link that it swaps, network file systems tell no events, and a
//!   configuration and its secrets are a few kilobytes. What changed must be the same in two looks: who writes in place may be in the middle of it.
//! - What cannot be used is refused, and told once; the old one goes on. Nothing is taken over in parts.
//! - When it takes effect is for the loop to say: between runs ([`crate::serve`]).

use std::path::PathBuf;
use std::sync::Arc;

use crate::app;
use crate::cleanup::Bell;
use crate::config::{self, Files, Loaded};
use crate::errors::chain;
use crate::serve::Renewed;
use crate::telemetry::metrics::Metrics;

/// Sections that are read once: what listens, and what logs, is there before the first change.
const ONCE: [&str; 2] = ["http", "log"];

/// Where a configuration comes from, and what is to be made of it.
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// The variables over it, which stay what they were.
    pub environment: Vec<(String, String)>,
    /// What is measured.
    pub metrics: Arc<Metrics>,
    /// What the loop hears.
    pub bell: Arc<Bell>,
}

/// A look at the files of a configuration, again and again.
pub struct Watch {
    source: Source,
    /// What the program was started with.
    started: Loaded,
    /// What was judged last, whatever came of it.
    judged: Files,
    /// What was there at the last look.
    seen: Files,
}

impl Watch {
    /// Watches what `started` was read from.
    pub fn new(source: Source, started: Loaded) -> Self {
        let files = started.files().clone();
        Self { source, started, judged: files.clone(), seen: files }
    }

    /// Looks, and judges what has changed. Blocks as long as its files do; must be called within a Tokio runtime. `None`: nothing is new.
    pub fn look(&mut self) -> Option<Result<Renewed, String>> {
        let now = self.judged.now();
        let is_settled = now == self.seen;
        self.seen = now;
        if self.seen == self.judged || !is_settled {
            return None;
        }
        let loaded = match config::load(&self.source.path, self.source.environment.iter().cloned()) {
            Ok(loaded) => loaded,
            Err(errors) => {
                self.judge(errors.files());
                return Some(Err(errors.to_string()));
            }
        };
        self.judge(loaded.files());
        let works = app::works(&loaded.config, &self.source.metrics, &self.source.bell);
        Some(works.map_err(|error| chain(&error)).map(|works| Renewed {
            works,
            needs_restart: self.started.changed(&loaded, &ONCE),
            config: Box::new(loaded.config),
        }))
    }

    fn judge(&mut self, files: &Files) {
        self.judged = files.clone();
        self.seen = files.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const TEXT: &str = "installation: campus\n\
        liveness:\n  campus: { url_file: secret, query: SELECT id FROM public.courses }\n\
        stores:\n  cache: { kind: redis, url: 'redis://localhost/0', templates: ['course:{course_id}'] }\n";

    /// A configuration, and what of it needs a restart.
    type Found = (Box<Config>, Vec<String>);

    struct Bed {
        folder: tempfile::TempDir,
        watch: Watch,
    }

    impl Bed {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("course-gc.yaml");
            std::fs::write(&path, TEXT).unwrap();
            std::fs::write(folder.path().join("secret"), "postgres://gc:first@db/campus").unwrap();
            let started = config::load(&path, []).unwrap();
            let (metrics, bell) = (Arc::new(Metrics::new(&[]).unwrap()), Arc::default());
            let watch = Watch::new(Source { path, environment: Vec::new(), metrics, bell }, started);
            Self { folder, watch }
        }

        fn write(&self, file: &str, text: &str) {
            std::fs::write(self.folder.path().join(file), text).unwrap();
        }

        /// What two looks find: the first one of a change finds nothing yet.
        fn looks(&mut self) -> Option<Result<Found, String>> {
            assert!(self.watch.look().is_none());
            self.watch.look().map(|found| found.map(|renewed| (renewed.config, renewed.needs_restart)))
        }
    }

    #[tokio::test]
    async fn a_change_is_found_once_it_lasts_and_then_once() {
        let mut bed = Bed::new();
        assert!(bed.looks().is_none());
        bed.write("course-gc.yaml", &format!("{TEXT}limits: {{ refuse_below: 2 }}\n"));
        assert!(bed.watch.look().is_none());
        bed.write("course-gc.yaml", &format!("{TEXT}limits: {{ refuse_below: 3 }}\nlog: {{ level: debug }}\n"));
        let (config, needs_restart) = bed.looks().unwrap().unwrap();
        assert_eq!(config.limits.refuse_below, 3);
        assert_eq!(needs_restart, ["log.level"]);
        assert!(bed.looks().is_none());
    }

    #[tokio::test]
    async fn a_secret_that_changes_is_a_change_and_one_that_is_gone_is_refused() {
        let mut bed = Bed::new();
        bed.write("secret", "postgres://gc:second@db/campus");
        let (config, _) = bed.looks().unwrap().unwrap();
        assert!(config.ledger_url().expose().contains("second"));
        std::fs::remove_file(bed.folder.path().join("secret")).unwrap();
        let refused = bed.looks().unwrap().unwrap_err();
        assert!(refused.contains("liveness.campus.url_file: cannot read"), "{refused}");
        assert!(bed.looks().is_none(), "it is told once");
        bed.write("secret", "postgres://gc:second@db/campus");
        assert!(bed.looks().unwrap().is_ok(), "what a refused one lacked is waited for");
    }

    #[tokio::test]
    async fn what_is_wrong_is_refused_whole_and_without_its_secrets() {
        let mut bed = Bed::new();
        bed.write("secret", "postgres:/gc:hunter2@db/campus");
        bed.write("course-gc.yaml", &format!("{TEXT}limits: {{ refuse_below: none }}\n"));
        let refused = bed.looks().unwrap().unwrap_err();
        assert!(refused.contains("limits.refuse_below") && refused.contains("liveness.campus.url"), "{refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
        // What can be read and not be made into clients is refused, too.
        bed.write("secret", "postgres://gc:second@db/campus");
        let qdrant = "  vectors: { kind: qdrant, url: 'http://host:6334/path', collections: [a] }\n";
        bed.write("course-gc.yaml", &format!("{TEXT}{qdrant}"));
        let refused = bed.looks().unwrap().unwrap_err();
        assert!(refused.contains("vectors"), "{refused}");
    }
}
