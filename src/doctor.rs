//! `course-gc doctor`: all that an installation needs, looked at from where it runs.
//!
//! It takes no lock, and changes nothing: what it writes are files of its own where copies are kept, which are gone again. Each store knows what to
//! look at ([`crate::stores::Store::examine`]); here is told whose it is, and the parts are put together.

use crate::domain::findings::{Checkup, Finding, Part};
use crate::domain::markers::{Known, NotAdopted, Truths, judge_marker, truths};
use crate::domain::pins::judge_sources;
use crate::errors::chain;
use crate::http::access::Access;
use crate::http::tls::TlsError;
use crate::ledger::{Adoption, Adoptions, LedgerError, Pauses, PostgresLedger};
use crate::liveness::{PostgresSources, Seen};
use crate::postgres::role::Login;
use crate::reconcile::{Collector, ManagedStore};

const ADOPT: &str = "look at `course-gc adopt`, and confirm with `--yes`";

/// An installation that is to be looked at.
pub struct Patient {
    /// What runs work with.
    pub collector: Collector,
    /// Its ledger.
    pub ledger: PostgresLedger,
    /// Its liveness sources.
    pub sources: PostgresSources,
    /// Every role of every database that it connects as.
    pub logins: Vec<Login>,
    /// Who may use its API, if there is one.
    pub access: Option<Access>,
    /// Whether the certificate that it is to show can be served, if there is one.
    pub certificate: Option<Result<(), TlsError>>,
}

/// Looks at all of it. Whatever cannot be asked is a finding, too.
pub async fn examine(patient: &Patient) -> Checkup {
    let mut parts = Vec::new();
    for login in &patient.logins {
        let part = format!("postgres {}, for {}", login.postgres.address(), login.purposes.join(", "));
        parts.push(Part { part, findings: login.examine().await });
    }
    let references = references(&patient.collector);
    for source in &patient.sources.sources {
        let findings = source.examine(patient.sources.id_type, &references).await;
        parts.push(Part { part: format!("liveness source {}", source.name), findings });
    }
    let mut ledger = patient.ledger.examine().await;
    let adopted = Adopted::look(patient).await;
    ledger.extend(adopted.findings());
    ledger.extend(paused(&patient.ledger).await);
    parts.push(Part { part: "the ledger".to_owned(), findings: ledger });
    for managed in &patient.collector.stores {
        parts.push(Part {
            part: format!("store {}", managed.store.name()),
            findings: store(patient, &adopted, managed).await,
        });
    }
    let is_copied = |managed: &ManagedStore| managed.quarantined && managed.store.in_place().is_none();
    if patient.collector.stores.iter().any(is_copied) {
        let findings = patient.collector.quarantine.archives.examine().await;
        parts.push(Part { part: "quarantine".to_owned(), findings });
    }
    if let Some(access) = &patient.access {
        parts.push(Part { part: "the API".to_owned(), findings: access.examine().await });
    }
    if let Some(certificate) = &patient.certificate {
        let found = match certificate {
            Ok(()) => Finding::ok("certificate", "it can be served with its key"),
            Err(error) => {
                Finding::problem("certificate", chain(error), "mount a certificate and its key, as PEM, at `http.tls`")
            }
        };
        parts.push(Part { part: "TLS".to_owned(), findings: vec![found] });
    }
    Checkup::of(parts)
}

/// The reference queries, by store: each liveness source is asked them.
fn references(collector: &Collector) -> Vec<(String, String)> {
    let query = |managed: &ManagedStore| {
        let query = managed.store.reference_query()?;
        Some((managed.store.name().to_owned(), query.to_owned()))
    };
    collector.stores.iter().filter_map(query).collect()
}

async fn paused(ledger: &PostgresLedger) -> Option<Finding> {
    let pause = ledger.paused().await.ok()??;
    Some(Finding::advice("pause", format!("paused: {}", pause.reason), "`course-gc resume`, once it is over"))
}

/// What was adopted, and what is there now.
enum Adopted {
    /// Both are known.
    Known(Box<(Adoption, Vec<(String, Seen)>)>),
    /// Nothing ever was.
    Never,
    /// It cannot be known: that is a finding of its own already.
    Unknown,
}

impl Adopted {
    async fn look(patient: &Patient) -> Self {
        match (patient.ledger.adoption().await, patient.sources.seen().await) {
            (Ok(Some(adoption)), Ok(seen)) => Self::Known(Box::new((adoption, seen))),
            (Ok(None), _) => Self::Never,
            _ => Self::Unknown,
        }
    }

    /// Whether the liveness sources are those that were adopted (S7).
    fn findings(&self) -> Vec<Finding> {
        const CHECK: &str = "adoption";
        let (adoption, seen) = match self {
            Self::Known(known) => &**known,
            Self::Never => {
                return vec![Finding::advice(CHECK, "nothing is adopted yet, and nothing is deleted before", ADOPT)];
            }
            Self::Unknown => return Vec::new(),
        };
        let now: Vec<_> = seen.iter().map(|(name, it)| (name.clone(), it.pin.clone(), it.position)).collect();
        let pinned = adoption.sources.iter().map(|(name, (pin, _))| (name.as_str(), pin));
        if let Err(misplaced) = judge_sources(pinned, &now) {
            return vec![Finding::problem(CHECK, misplaced, format!("if it is right: {ADOPT}"))];
        }
        let broken = |(name, _, position): &(String, _, _)| {
            let (_, last) = adoption.sources.get(name)?;
            let why = last.broken_by(position)?;
            let seen = format!("the history of liveness source {name} broke: {why}");
            Some(Finding::advice(
                "history",
                seen,
                "let the next run judge it; `course-gc holds` then shows what waits for you",
            ))
        };
        let broken: Vec<Finding> = now.iter().filter_map(broken).collect();
        let adopted = Finding::ok(CHECK, "the liveness sources are those that were adopted");
        if broken.is_empty() { vec![adopted] } else { broken }
    }
}

/// A store: that it can be reached, whose it is, and what it tells of itself.
async fn store(patient: &Patient, adopted: &Adopted, managed: &ManagedStore) -> Vec<Finding> {
    let marker = managed.store.marker().await;
    let mut findings = match managed.store.identity().await {
        Ok(identity) => vec![Finding::ok("connection", identity)],
        Err(error) => {
            let fix = "mend what it says; nothing of this store is deleted until then, and the others go on";
            return vec![Finding::problem("connection", chain(&error), fix)];
        }
    };
    match (marker, adopted) {
        (Err(error), _) => findings.push(Finding::problem("marker", chain(&error), "see what is said of the marker")),
        (Ok(_), Adopted::Known(known)) => findings.push(marked(patient, managed, &known.1).await),
        (Ok(_), Adopted::Never | Adopted::Unknown) => {}
    }
    findings.extend(managed.store.examine().await);
    findings
}

/// Whether a store carries our marker as the ledger knows it (S7).
async fn marked(patient: &Patient, managed: &ManagedStore, seen: &[(String, Seen)]) -> Finding {
    const CHECK: &str = "marker";
    let truths = truths(seen.iter().map(|(_, it)| (&it.pin, it.server.as_deref())));
    match judge(patient, managed, &truths).await {
        Ok(Ok(())) => Finding::ok(CHECK, "it carries our marker, with the ledger's count"),
        Ok(Err(reason)) => Finding::problem(CHECK, reason, format!("if it is the right place: {ADOPT}")),
        Err(why) => Finding::problem(CHECK, why, "find out which ledger is the right one, before anything else"),
    }
}

/// A run that begins right now moves marker and ledger one after the other, so that what does not fit is looked at once more.
async fn judge(patient: &Patient, managed: &ManagedStore, truths: &Truths) -> Result<Result<(), NotAdopted>, String> {
    match judge_once(patient, managed, truths).await {
        Ok(Ok(())) => Ok(Ok(())),
        _ => judge_once(patient, managed, truths).await,
    }
}

async fn judge_once(
    patient: &Patient,
    managed: &ManagedStore,
    truths: &Truths,
) -> Result<Result<(), NotAdopted>, String> {
    let marker = managed.store.marker().await.map_err(|error| chain(&error))?;
    let adoption = patient.ledger.adoption().await.map_err(|error: LedgerError| chain(&error))?;
    let Some(adoption) = adoption else { return Ok(Err(NotAdopted::Never)) };
    let (store, sources) = (managed.store.name(), managed.declared());
    let (adopted, installation) = (adoption.stores.get(store), adoption.installation);
    let known = Known { store, adopted, sources: &sources, installation, truths };
    judge_marker(&known, marker.as_ref()).map_err(|behind| behind.to_string())
}
