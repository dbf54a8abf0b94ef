//! `course-gc serve`: runs on schedule until it is told to stop, and answers probes meanwhile.
//!
//! One loop ticks each second. It has at most one thing under way, in a task of its own: a look at the ledger, or a run.
//! So two runs never overlap, and the loop's heartbeat goes on however long a run takes. What to do next is decided by
//! `next`, from the database's time alone.
//!
//! Replicas need nothing but the ledger: each looks at when the last run started, whoever did it, and the lock decides
//! between two that start at once. Whoever is late stands by.
//!
//! A changed configuration takes effect between runs: clients, limits, schedule, the API; nothing of it within a run. What cannot be used is
//! refused, and the old one goes on.
//!
//! Nothing is retried inside a run; the next due one does. A run that fails before it could note its start would be due
//! again at once, so a pause comes in between, which grows with each one that fails. A run whose process died is begun again by whoever notices,
//! whenever the next one is due; but what was cut off twice waits for that, since it may be the run itself that kills.

mod next;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use tokio::time::timeout;
use tokio_cron_scheduler::JobSchedulerError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::cleanup::{self, Bell};
use crate::config::Config;
use crate::domain::report::{Mode, RunReport, Verdict};
use crate::domain::standing::Standing;
use crate::errors::chain;
use crate::http::api::Api;
use crate::http::tls::Certificate;
use crate::http::{self, Board, Health, Site, Switch, Unwell};
use crate::ledger::{LastRun, LedgerError};
use crate::reconcile::{Collector, RunError, reconcile};
use crate::schedule::{Due, Ticker, due};
use crate::telemetry::events;
use crate::telemetry::metrics::Metrics;
use crate::tombstones::Tombstones;

use next::{Known, LOOK_AGAIN, PAUSE_LOCKED, Step, View, next, pause_failed};

/// How long a run has to end its batch once it is told to stop; Kubernetes kills after 30 s by default.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// Deaths that were recorded want no more than one run within this time.
const SELDOM: TimeDelta = TimeDelta::minutes(1);
/// How often the files of the configuration are looked at; a change must last for two looks.
const LOOK_FOR_CHANGES: Duration = Duration::from_secs(5);
/// How long answers that are under way have to end after that.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Why serving ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}; is it another program's, or not this machine's? (`http.listen`)")]
    Bind {
        /// The configured address.
        address: SocketAddr,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The ticks do not come.
    #[error("the schedule's ticks cannot be started")]
    Ticker(#[source] JobSchedulerError),
    /// The HTTP server ended by itself.
    #[error("the HTTP server ended")]
    Http(#[source] std::io::Error),
}

/// Who begins runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// This process, on the schedule.
    Here,
    /// Others, a job for instance: this process only looks, and says what it sees.
    Elsewhere,
}

/// What is served.
pub struct Serving {
    /// What the configuration says.
    pub works: Works,
    /// What is measured.
    pub metrics: Arc<Metrics>,
    /// What the loop hears, and the API rings.
    pub bell: Arc<Bell>,
    /// What callers are shown, if they are to speak TLS.
    pub certificate: Option<Arc<Certificate>>,
    /// Who begins runs.
    pub runs: Runs,
    /// Looks for another configuration, if anybody does.
    pub changes: Option<Look>,
}

/// What is made anew when the configuration changes.
pub struct Works {
    /// What runs work with.
    pub collector: Arc<Collector>,
    /// The API, if there is one.
    pub api: Option<Arc<Api>>,
    /// Where somebody tells of new tombstones.
    pub heard: Vec<Tombstones>,
}

/// What another configuration says.
pub struct Renewed {
    /// What is made of it.
    pub works: Works,
    /// The configuration.
    pub config: Box<Config>,
    /// Fields that have changed, and take effect after a restart only.
    pub needs_restart: Vec<String>,
}

/// Looks whether the configuration has changed: `None` if not, or else what it says now, or why it is refused. It may block.
pub type Look = Box<dyn FnMut() -> Option<Result<Renewed, String>> + Send>;

/// Listens on `listen` (port 0: any free one) and runs on schedule until `stop` is cancelled; then lets the run under way
/// finish its batch, and closes the HTTP server last.
///
/// # Errors
/// If it cannot listen or tick, or if the HTTP server ends by itself. A run's errors do not end it.
pub async fn serve(serving: Serving, listen: SocketAddr, stop: CancellationToken) -> Result<(), ServeError> {
    serve_on(serving, bind(listen).await?, stop).await
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Bind { address, source })
}

/// As [`serve`], on a listener that is there already.
///
/// # Errors
/// As [`serve`].
pub async fn serve_on(serving: Serving, listener: TcpListener, stop: CancellationToken) -> Result<(), ServeError> {
    let Serving { works: Works { collector, api, heard }, metrics, bell, certificate, runs, changes } = serving;
    events::listening(listener.local_addr().map_err(ServeError::Http)?);
    tell_paces(&collector, &metrics);
    let health = Arc::new(Health::new(Arc::clone(&collector.clock)));
    let close = CancellationToken::new();
    let board = Arc::new(Board::default());
    let site = Site { metrics, health, board, api };
    let switch = Arc::new(Switch::new(site.clone()));
    let answered = Arc::clone(&switch);
    let closing = close.clone();
    let answering = async move { http::answer(listener, certificate, &answered, closing).await };
    let mut http = AbortOnDropHandle::new(tokio::spawn(answering));
    let (sender, renewals) = mpsc::channel(1);
    let _looking = changes.map(|look| AbortOnDropHandle::new(tokio::spawn(look_for_changes(look, sender))));
    let ticker = Ticker::start().await.map_err(ServeError::Ticker)?;
    let listening = listen(heard, &bell);
    let front = Front { site, switch, listening };
    let mut activator = Activator::new(collector, front, bell, (stop, renewals));
    if runs == Runs::Elsewhere {
        activator.known = Known::watching();
    }
    let ended = tokio::select! {
        () = activator.turn(&ticker) => {
            activator.settle().await;
            close.cancel();
            // Whoever holds a connection open for longer is cut off.
            timeout(CLOSE_WITHIN, &mut http).await.map_or(Ok(()), http_ended)
        }
        ended = &mut http => {
            activator.stop.cancel();
            activator.settle().await;
            http_ended(ended)
        }
    };
    ticker.shutdown().await.map_err(ServeError::Ticker)?;
    ended
}

/// From now on the metrics tell at which pace these stores are called.
fn tell_paces(collector: &Collector, metrics: &Metrics) {
    for store in collector.stores.iter().map(|managed| &managed.store) {
        if let Some(pace) = store.pace() {
            metrics.paced(store.name(), pace);
        }
    }
}

/// Listens for new tombstones, for as long as the handles are held.
fn listen(heard: Vec<Tombstones>, bell: &Arc<Bell>) -> Vec<AbortOnDropHandle<()>> {
    let each = heard.into_iter().map(|tombstones| {
        let bell = Arc::clone(bell);
        AbortOnDropHandle::new(tokio::spawn(async move { tombstones.listen(|| bell.ring()).await }))
    });
    each.collect()
}

/// Looks for another configuration every few seconds, and hands on what is found.
async fn look_for_changes(mut look: Look, found: mpsc::Sender<Result<Renewed, String>>) {
    loop {
        tokio::time::sleep(LOOK_FOR_CHANGES).await;
        let looked = spawn_blocking(move || {
            let found = look();
            (look, found)
        });
        let change = match looked.await {
            Ok((again, change)) => {
                look = again;
                change
            }
            Err(error) => {
                tracing::error!(error = chain(&error), "nobody looks for another configuration any more");
                return;
            }
        };
        if let Some(change) = change
            && found.send(change).await.is_err()
        {
            return;
        }
    }
}

fn http_ended(ended: Result<std::io::Result<()>, JoinError>) -> Result<(), ServeError> {
    ended.map_err(std::io::Error::other).flatten().map_err(ServeError::Http)
}

/// What was under way, and what came of it.
enum Done {
    // These are large, and there is one at a time.
    Looked(Box<Result<Seen, LedgerError>>),
    Ran(Box<Result<RunReport, RunError>>),
}

/// What a look at the ledger showed.
struct Seen {
    /// Whether a run is to begin.
    wants: Wants,
    /// How things stand. That it cannot be measured is no reason not to work.
    standing: Result<Standing, LedgerError>,
}

/// What the loop knows of the runs that ended.
#[derive(Default)]
struct Told {
    /// The last that ended.
    ended: Option<Uuid>,
    /// The last that ended otherwise than failed.
    unfailed: Option<Uuid>,
}

/// What others see.
struct Front {
    site: Site,
    switch: Arc<Switch>,
    listening: Vec<AbortOnDropHandle<()>>,
}

/// The loop.
struct Activator {
    collector: Arc<Collector>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    board: Arc<Board>,
    front: Front,
    stop: CancellationToken,
    bell: Arc<Bell>,
    renewals: mpsc::Receiver<Result<Renewed, String>>,
    /// Takes effect as soon as nothing is under way.
    next: Option<Renewed>,
    known: Known,
    /// Whether the ledger could be used when it was last looked at.
    ledger_up: Option<bool>,
    /// What the metrics know of the ledger.
    told: Told,
    /// How many runs in a row failed here, with none that did not by anybody since.
    failed_in_a_row: u32,
    /// At most one task.
    work: JoinSet<Done>,
}

impl Activator {
    fn new(
        collector: Arc<Collector>,
        front: Front,
        bell: Arc<Bell>,
        (stop, renewals): (CancellationToken, mpsc::Receiver<Result<Renewed, String>>),
    ) -> Self {
        let Site { metrics, health, board, .. } = front.site.clone();
        Self {
            collector,
            metrics,
            health,
            board,
            front,
            stop,
            bell,
            renewals,
            next: None,
            known: Known::default(),
            ledger_up: None,
            told: Told::default(),
            failed_in_a_row: 0,
            work: JoinSet::new(),
        }
    }

    /// Looks and runs, until it is told to stop.
    async fn turn(&mut self, ticker: &Ticker) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = ticker.tick() => {}
                // What was seen before somebody asked does not count.
                () = self.bell.rung() => self.known.view = None,
                Some(done) = self.work.join_next() => self.absorb(done),
                Some(renewal) = self.renewals.recv() => self.renewed(renewal),
            }
            self.health.beat();
            self.metrics.lead(self.collector.leading.leads());
            if self.work.is_empty() {
                self.take_over();
                self.begin();
            }
        }
    }

    fn renewed(&mut self, renewal: Result<Renewed, String>) {
        match renewal {
            Ok(renewed) => self.next = Some(renewed),
            Err(why) => {
                // What was to come before it is not what is meant any more.
                self.next = None;
                events::configuration_refused(&self.metrics, &why);
            }
        }
    }

    /// Goes on with another configuration, if there is one: never within a run, which would be two halves of different ones.
    fn take_over(&mut self) {
        let Some(Renewed { works: Works { collector, api, heard }, config, needs_restart }) = self.next.take() else {
            return;
        };
        self.metrics.configured(&config);
        tell_paces(&collector, &self.metrics);
        self.collector = collector;
        self.front.site.api = api;
        self.front.switch.turn(self.front.site.clone());
        self.front.listening = listen(heard, &self.bell);
        // The ledger may be another one.
        self.known.view = None;
        self.known.look_after = Duration::ZERO;
        events::configuration_applied(&self.metrics, &needs_restart);
    }

    /// Waits for what is under way, but not for ever: a run that is cut off is one that crashed, and the next goes on.
    async fn settle(&mut self) {
        self.health.stop();
        while let Some(done) = match timeout(STOP_WITHIN, self.work.join_next()).await {
            Ok(done) => done,
            Err(_) => return events::run_abandoned(STOP_WITHIN.as_secs()),
        } {
            self.absorb(done);
        }
    }

    fn begin(&mut self) {
        let collector = Arc::clone(&self.collector);
        match next(&collector.schedule, &self.known, self.now()) {
            Step::Wait => {}
            Step::Look => {
                let known = self.told.ended;
                self.work.spawn(async move { Done::Looked(Box::new(look(&collector, known).await)) });
            }
            Step::Run => {
                self.health.run_began();
                self.bell.run_begins();
                let stop = self.stop.clone();
                self.work.spawn(async move { Done::Ran(Box::new(reconcile(&collector, Mode::Run, &stop).await)) });
            }
        }
    }

    fn absorb(&mut self, done: Result<Done, JoinError>) {
        match done {
            Ok(Done::Looked(seen)) => self.looked(*seen),
            Ok(Done::Ran(ended)) => self.ran(*ended),
            Err(error) => {
                events::panicked(&self.metrics, Mode::Run, &error);
                self.failed(self.failed_in_a_row.saturating_add(1));
                self.pause(pause_failed(self.failed_in_a_row));
            }
        }
    }

    fn looked(&mut self, seen: Result<Seen, LedgerError>) {
        let up = seen.is_ok();
        let changed = self.ledger_up.replace(up) != Some(up);
        match seen {
            Ok(Seen { wants: Wants { last_start, now, wanted, others_work }, standing }) => {
                // Taken after the answer, so that what is added since never runs ahead of the database.
                let (looked_at, wanted) = (self.now(), wanted || self.bell.wants_a_run());
                self.known.view = Some(View { last_start, wanted, others_work, database_time: now, looked_at });
                match standing {
                    Ok(standing) => self.tell(standing),
                    Err(error) => events::not_told(&error),
                }
                self.health.set_ready(Ok(()));
                if changed {
                    events::ledger_up(&self.metrics);
                }
            }
            Err(error) => {
                self.known.view = None;
                self.known.look_after = self.now() + LOOK_AGAIN;
                self.health.set_ready(Err(Unwell::Ledger(chain(&error))));
                if changed {
                    events::ledger_down(&self.metrics, &error);
                }
            }
        }
    }

    fn tell(&mut self, standing: Standing) {
        events::told(&self.metrics, &standing);
        if standing.last_unfailed != self.told.unfailed {
            self.failed(0);
        }
        self.told = Told { ended: standing.last_ended, unfailed: standing.last_unfailed };
        self.board.put(standing);
    }

    fn failed(&mut self, in_a_row: u32) {
        self.failed_in_a_row = in_a_row;
        events::failed_in_a_row(&self.metrics, in_a_row);
    }

    fn ran(&mut self, ended: Result<RunReport, RunError>) {
        let has_failed = match &ended {
            Ok(report) => report.verdict == Verdict::Failed,
            Err(error) => !matches!(error, RunError::Locked(_) | RunError::Stopped),
        };
        if has_failed {
            self.failed(self.failed_in_a_row.saturating_add(1));
        }
        let pause = match &ended {
            Ok(_) | Err(RunError::Stopped) => Duration::ZERO,
            Err(RunError::Locked(_)) => PAUSE_LOCKED,
            Err(RunError::Liveness(_) | RunError::Ledger(_) | RunError::Misplaced(_)) => {
                pause_failed(self.failed_in_a_row)
            }
        };
        match ended {
            Ok(report) => events::run_finished(&self.metrics, &report),
            Err(error) => events::run_failed(&self.metrics, Mode::Run, &error),
        }
        self.pause(pause);
    }

    /// After a run, whatever came of it: another may be due after this, by a new look.
    fn pause(&mut self, pause: Duration) {
        self.bell.run_ended();
        self.health.run_ended();
        self.known.view = None;
        // Never sooner: who only watches begins no run, whatever goes wrong.
        self.known.run_after = self.known.run_after.max(self.now() + pause);
    }

    /// Since boot.
    fn now(&self) -> Duration {
        self.collector.clock.since_boot()
    }
}

/// Whether a run would begin now if the program served: the schedule says so, somebody asked, or a recorded death has waited long enough. For
/// whoever is started every few minutes instead.
///
/// # Errors
/// If the ledger does not answer.
pub async fn due_now(collector: &Collector) -> Result<Due, LedgerError> {
    collector.ledger.check_version().await?;
    let Wants { last_start, now, wanted, .. } = wants(collector).await?;
    Ok(if wanted { Due::Now } else { due(&collector.schedule, last_start, now) })
}

/// Makes sure that the ledger is the one that this program knows, and asks how things stand, and whether a run is wanted.
async fn look(collector: &Collector, known: Option<Uuid>) -> Result<Seen, LedgerError> {
    collector.ledger.check_version().await?;
    let standing = collector.ledger.standing(&collector.limits.graces, known).await;
    // After it, so that the time is as fresh as can be.
    Ok(Seen { wants: wants(collector).await?, standing })
}

/// What [`wants`] answers. Times are the database's.
struct Wants {
    /// When the last run started.
    last_start: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
    /// A run is wanted before the next one is due: the delete path asks for one, or the last one was cut off.
    wanted: bool,
    /// Another collector is in the middle of a run.
    others_work: bool,
}

/// When the last run started, and whether a run is wanted before the next is due.
async fn wants(collector: &Collector) -> Result<Wants, LedgerError> {
    let last_run = collector.ledger.last_run().await?;
    let (last_start, now) = collector.ledger.last_start().await?;
    let seldom = last_start.is_none_or(|last| now - last >= SELDOM);
    let was_cut_off = last_run == LastRun::CutOff { again: false };
    let wanted = was_cut_off || cleanup::is_wanted(collector, seldom).await?;
    Ok(Wants { last_start, now, wanted, others_work: last_run == LastRun::AtWork })
}

#[cfg(test)]
mod tests;
