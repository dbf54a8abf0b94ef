//! Approving (S3, S7, S8): a person reads what is held, and says by its digest that it is meant.
//!
//! Holds are found anew each time, so that a digest approves what it named when it was read, or nothing. No lock is taken:
//! a pass that is under way goes on with what it read, and the next one sees the approval.

use crate::domain::approvals::{Digest, HoldKind, Terms};
use crate::domain::holds::{HoldReport, HoldSet, of_halts, of_orphans};
use crate::domain::live_set::Halts;
use crate::ledger::{Approval, Ledger, LedgerError};
use crate::reconcile::Collector;

/// Why nothing was approved.
#[derive(Debug, thiserror::Error)]
pub enum ApproveError {
    /// Nothing that is held has this digest.
    #[error(
        "nothing that is held now has the digest {0}: what is held has changed since, or was approved; look at `course-gc holds`"
    )]
    Changed(Digest),
    /// The ledger.
    #[error("the ledger cannot be used")]
    Ledger(#[from] LedgerError),
}

/// What waits for a person, and what was approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holds {
    /// What is held.
    pub holds: Vec<HoldReport>,
    /// The approvals in force, newest first.
    pub approvals: Vec<Approval>,
}

/// Everything that is held now, by the last plan or run.
///
/// # Errors
/// If the ledger does not answer.
pub async fn holds(collector: &Collector) -> Result<Holds, LedgerError> {
    let ledger = collector.ledger.as_ref();
    ledger.check_version().await?;
    let approvals = ledger.approvals().await?;
    let halts = halts(ledger, &approvals).await?;
    let held = collector.held().await?;
    let all = all(halts.as_ref(), of_orphans(&held, &collector.limits));
    Ok(Holds { holds: all.into_iter().map(|hold| hold.report).collect(), approvals })
}

/// Approves what is held now under this digest, and nothing else.
///
/// # Errors
/// If nothing is, or the ledger does not answer: then nothing was approved.
pub async fn approve(
    collector: &Collector,
    digest: Digest,
    terms: &Terms,
) -> Result<(HoldReport, Approval), ApproveError> {
    let ledger = collector.ledger.as_ref();
    ledger.check_version().await?;
    let halts = halts(ledger, &ledger.approvals().await?).await?;
    let held = collector.held().await?;
    let mut all = all(halts.as_ref(), of_orphans(&held, &collector.limits)).into_iter();
    let hold = all.find(|hold| hold.report.digest == Some(digest)).ok_or(ApproveError::Changed(digest))?;
    let approval = ledger.approve(digest, hold.report.kind, &hold.covered, terms).await?;
    tracing::info!(%digest, kind = approval.kind.as_str(), covers = approval.covers, by = approval.approved_by, "approved");
    Ok((hold.report, approval))
}

fn all<'a>(halts: Option<&'a Halts>, orphans: Vec<HoldSet<'a>>) -> Vec<HoldSet<'a>> {
    halts.map(of_halts).into_iter().chain(orphans).collect()
}

/// Why the last pass halted, unless somebody approved that since.
async fn halts(ledger: &dyn Ledger, approvals: &[Approval]) -> Result<Option<Halts>, LedgerError> {
    let Some((started_at, halts)) = ledger.last_halts().await? else { return Ok(None) };
    let Some(halts) = Halts::new(halts) else { return Ok(None) };
    let digest = of_halts(&halts).report.digest;
    let is_it = |it: &Approval| it.kind == HoldKind::Halt && it.approved_at > started_at && Some(it.digest) == digest;
    Ok((!approvals.iter().any(is_it)).then_some(halts))
}
