//! A liveness source as `course-gc doctor` sees it. Takes no lock, so that it disturbs no run.

use sqlx::{Connection, PgConnection};

use super::{LivenessSource, PostgresSources, column, place};
use crate::domain::findings::Finding;
use crate::domain::ids::IdType;
use crate::domain::pins::{Position, SourcePin};
use crate::errors::chain;
use crate::postgres::explain::{WholeTable, whole_tables};
use crate::postgres::{BEGIN_QUESTION, Postgres, PostgresError};
use crate::tombstones::{Coverage, Tombstones};

const CORRECT: &str = "correct the query, or give its role what it lacks (`sql/roles.sql`)";
const INSTALL: &str = "run what `course-gc tombstones install` prints";

/// A source as it is now.
pub struct Seen {
    /// What it is.
    pub pin: SourcePin,
    /// Where in its history.
    pub position: Position,
    /// The running server, if it tells.
    pub server: Option<String>,
}

impl PostgresSources {
    /// Each source, as it is now, in the order of the configuration. Takes no lock.
    ///
    /// # Errors
    /// If one cannot be asked, or reads what may hide rows (S4).
    pub async fn seen(&self) -> Result<Vec<(String, Seen)>, PostgresError> {
        let mut all = Vec::with_capacity(self.sources.len());
        for source in &self.sources {
            let (pin, position, server) = place(self.id_type, source).await?;
            all.push((source.name.clone(), Seen { pin, position, server }));
        }
        Ok(all)
    }
}

impl LivenessSource {
    /// What was found: its queries, the reference queries of stores among them (by store), and what its trigger records.
    pub async fn examine(&self, id_type: IdType, references: &[(String, String)]) -> Vec<Finding> {
        let mut findings = vec![self.liveness(id_type).await];
        if let Some(query) = &self.organizations {
            findings.push(planned("organizations", self.plan(query).await));
        }
        for (store, query) in references {
            let found = planned("references", self.plan(query).await);
            findings.push(Finding { seen: format!("of store {store}: {}", found.seen), ..found });
        }
        if let Some(tombstones) = &self.tombstones {
            findings.extend(examine_tombstones(tombstones).await);
        }
        findings
    }

    /// The query is one that can be believed, and is asked as each batch asks it.
    async fn liveness(&self, id_type: IdType) -> Finding {
        const CHECK: &str = "query";
        let looked = async {
            let (pin, _, _) = place(id_type, self).await?;
            let mut connection = question(&self.postgres).await?;
            let id = column(&self.postgres, id_type, &self.query, &mut connection).await?;
            let nobody = match id_type {
                IdType::Uuid => "{00000000-0000-0000-0000-000000000000}",
                IdType::Integer => "{0}",
                IdType::Text(_) => "{nobody}",
            };
            let among = super::among(id_type, &self.query, &id).replace("$1", &format!("'{nobody}'"));
            let whole = whole_tables(&self.postgres, &mut connection, &among).await?;
            // The session ends in any case.
            let _ = connection.close().await;
            Ok::<_, PostgresError>((pin, whole))
        };
        match looked.await {
            Ok((pin, whole)) => {
                let names: Vec<&str> = pin.relations.iter().map(|relation| relation.name.as_str()).collect();
                let reads = format!("it reads {}", names.join(", "));
                match large(&whole) {
                    None => Finding::ok(CHECK, reads),
                    Some(large) => {
                        let seen = format!("{reads}; for each batch, all of {large} is read");
                        Finding::advice(
                            CHECK,
                            seen,
                            "make an index that finds a course by its id, as the query returns it",
                        )
                    }
                }
            }
            Err(error) => Finding::problem(CHECK, chain(&error), CORRECT),
        }
    }

    async fn plan(&self, query: &str) -> Result<(), PostgresError> {
        let mut connection = question(&self.postgres).await?;
        whole_tables(&self.postgres, &mut connection, &format!("SELECT * FROM ({query}\n) AS live")).await?;
        // The session ends in any case.
        let _ = connection.close().await;
        Ok(())
    }
}

/// A session in a transaction as questions are asked in.
async fn question(postgres: &Postgres) -> Result<PgConnection, PostgresError> {
    let mut connection = postgres.connect_alone().await?;
    postgres.call("beginning a transaction", sqlx::raw_sql(BEGIN_QUESTION).execute(&mut connection)).await?;
    Ok(connection)
}

fn planned(check: &'static str, planned: Result<(), PostgresError>) -> Finding {
    match planned {
        Ok(()) => Finding::ok(check, "the query can be asked"),
        Err(error) => Finding::problem(check, chain(&error), CORRECT),
    }
}

fn large(whole: &[WholeTable]) -> Option<String> {
    let shown = |table: &WholeTable| format!("{} (about {:.0} rows)", table.name, table.rows);
    (!whole.is_empty()).then(|| whole.iter().map(shown).collect::<Vec<_>>().join(", "))
}

async fn examine_tombstones(tombstones: &Tombstones) -> Vec<Finding> {
    const CHECK: &str = "tombstones";
    let status = match tombstones.status().await {
        Ok(status) => status,
        Err(error) => return vec![Finding::problem(CHECK, chain(&error), "correct `tombstones` of this source")],
    };
    let mut findings = Vec::new();
    if !status.table {
        findings.push(Finding::problem(CHECK, "the trigger is not installed: no death is recorded", INSTALL));
        return findings;
    }
    if !status.readable {
        findings.push(Finding::problem(CHECK, "the role may not read and remove tombstones", INSTALL));
    }
    for relation in &status.relations {
        let what = match relation.coverage {
            Coverage::Enabled => continue,
            Coverage::Disabled => "are not recorded: the trigger is disabled",
            Coverage::Missing => "are not recorded: there is no trigger",
            Coverage::OtherColumn => "are recorded by another column than `tombstones.column`",
        };
        findings.push(Finding::problem(CHECK, format!("deletes from {} {what}", relation.name), INSTALL));
    }
    if status.notifies != tombstones.notify {
        let seen = if status.notifies {
            "the trigger notifies, and `notify` is off"
        } else {
            "`notify` is on, and the trigger does not"
        };
        findings.push(Finding::advice(CHECK, seen, INSTALL));
    }
    if findings.is_empty() {
        let count = status.tombstones.unwrap_or(0);
        findings.push(Finding::ok(
            CHECK,
            format!("every delete from {}.{} is recorded; {count} are there", tombstones.schema, tombstones.table),
        ));
    }
    findings
}
