//! Whose the courses are: learned while they live, since nobody tells of the dead.

use std::collections::BTreeMap;

use super::{Collector, RunError};
use crate::domain::ids::CourseId;
use crate::errors::chain;
use crate::ledger::LedgerError;

/// How many courses are asked about at a time.
const PAGE: u32 = 10_000;

/// Notes whose the courses are of which that is not known yet. Where nobody tells, nothing is lost but the right of callers that are bound
/// to an organization to ask for these courses; the next run tries again.
pub(super) async fn learn(collector: &Collector) -> Result<(), RunError> {
    if !collector.liveness.tells_organizations() {
        return Ok(());
    }
    loop {
        let unknown = collector.ledger.without_organization(PAGE).await?;
        if unknown.is_empty() {
            return Ok(());
        }
        match collector.liveness.organizations(&unknown).await {
            Ok(mut told) => {
                for course in unknown {
                    told.entry(course).or_default();
                }
                collector.ledger.note_organizations(&told).await?;
            }
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "nobody tells whose courses are; bound callers may not ask for them"
                );
                return Ok(());
            }
        }
    }
}

/// Whose a course is: as its liveness source says, or, where it has gone, as it did.
///
/// # Errors
/// If the ledger does not answer.
pub async fn of(collector: &Collector, course: CourseId) -> Result<Option<String>, LedgerError> {
    let told = match collector.liveness.organizations(&[course].into()).await {
        Ok(told) => told,
        Err(error) => {
            tracing::warn!(error = chain(&error), "whose a course is could not be asked; the ledger's word counts");
            BTreeMap::new()
        }
    };
    match told.get(&course) {
        Some(organization) => Ok(Some(organization.clone())),
        None => collector.ledger.organization_of(course).await,
    }
}
