//! How things stand, for the metrics: asked every few seconds by every replica, so a report is read only when it is a new one.

use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::{LedgerError, PostgresLedger, counted};
use crate::domain::evidence::{Evidence, Graces};
use crate::domain::standing::{OVERDUE_AFTER, OrphanGroup, Standing};

const ACTION: &str = "reading how things stand";

/// The times of runs, and what is open. One row.
const TIMES: &str = "SELECT clock_timestamp() AS now, \
         max(started_at) FILTER (WHERE mode = 'run') AS last_start, \
         max(finished_at) FILTER (WHERE mode = 'run' AND verdict IN ('clean', 'done')) AS last_success, \
         max(finished_at) FILTER (WHERE mode = 'run' AND verdict = 'clean') AS last_clean, \
         (SELECT id FROM course_gc.runs WHERE mode = 'run' AND verdict <> 'failed' ORDER BY ordinal DESC LIMIT 1) \
             AS last_unfailed, \
         (SELECT id FROM course_gc.runs WHERE finished_at IS NOT NULL ORDER BY ordinal DESC LIMIT 1) AS last_ended, \
         EXISTS (SELECT FROM course_gc.pauses WHERE resumed_at IS NULL) AS paused, \
         (SELECT count(*) FROM course_gc.requests WHERE state = 'open') AS open_requests, \
         (SELECT min(requested_at) FROM course_gc.requests WHERE state = 'open') AS oldest_request \
     FROM course_gc.runs";

/// The orphans, by what they have in common. What was decided while a run was under way is not there yet.
const ORPHANS: &str = "SELECT store, evidence, decision, count(*) AS orphans, min(first_seen) AS first_seen, \
         count(*) FILTER (WHERE accrued_ms > $1 + CASE evidence \
             WHEN 'tombstoned' THEN $2 WHEN 'departed' THEN $3 WHEN 'stranger' THEN $4 ELSE 0 END) AS late \
     FROM course_gc.orphans GROUP BY store, evidence, decision";

/// Of the last report that has each of them: whether it halted, the live sets, the quarantine, the stores. The orphans that are
/// listed in it are counted here: they would be all that is large.
const SEEN: &str = "WITH look AS (SELECT report FROM course_gc.runs \
         WHERE jsonb_array_length(coalesce(report -> 'stores', '[]')) > 0 ORDER BY ordinal DESC LIMIT 1), \
     source AS (SELECT s.at AS store, jsonb_agg(jsonb_build_object( \
             'name', c -> 'name', 'live_courses', c -> 'live_courses', 'live_resources', c -> 'live_resources', \
             'unrecognised', c -> 'unrecognised' -> 'count', 'orphans', jsonb_array_length(c -> 'orphans'), \
             'orphan_resources', (SELECT coalesce(sum((o ->> 'resources')::bigint), 0) \
                 FROM jsonb_array_elements(c -> 'orphans') o)) ORDER BY i) AS sources \
         FROM look, jsonb_array_elements(look.report -> 'stores') WITH ORDINALITY AS s(it, at), \
             jsonb_array_elements(s.it -> 'sources') WITH ORDINALITY AS c(c, i) GROUP BY s.at), \
     store AS (SELECT coalesce(jsonb_agg(jsonb_build_object( \
             'name', s.it -> 'name', 'complete', s.it -> 'complete', 'quarantined', s.it -> 'quarantined', \
             'adopted', s.it -> 'not_adopted' = 'null', 'unclaimed', s.it -> 'unclaimed' -> 'count', \
             'sources', coalesce(source.sources, '[]')) ORDER BY s.at), '[]') AS stores \
         FROM look, jsonb_array_elements(look.report -> 'stores') WITH ORDINALITY AS s(it, at) \
             LEFT JOIN source ON source.store = s.at), \
     halt AS (SELECT report ->> 'halt' IS NOT NULL AS halted, jsonb_array_length(report -> 'halts') = 0 AS placeless \
         FROM course_gc.runs WHERE report ? 'halt' ORDER BY ordinal DESC LIMIT 1), \
     live AS (SELECT report -> 'live' AS live FROM course_gc.runs \
         WHERE jsonb_array_length(coalesce(report -> 'live', '[]')) > 0 ORDER BY ordinal DESC LIMIT 1), \
     quarantine AS (SELECT report -> 'quarantine' AS quarantine FROM course_gc.runs \
         WHERE jsonb_typeof(report -> 'quarantine') = 'object' ORDER BY ordinal DESC LIMIT 1) \
     SELECT jsonb_build_object('halted', coalesce((SELECT halted FROM halt), false), \
         'misplaced', coalesce((SELECT halted AND placeless FROM halt), false), \
         'live', coalesce((SELECT live FROM live), '[]'), 'quarantine', (SELECT quarantine FROM quarantine), \
         'stores', coalesce((SELECT stores FROM store), '[]'))";

impl PostgresLedger {
    /// See [`super::Ledger::standing`].
    pub(super) async fn read_standing(&self, graces: &Graces, known: Option<Uuid>) -> Result<Standing, LedgerError> {
        let times = self.call(ACTION, sqlx::query(TIMES).fetch_one(&self.pool)).await?;
        let mut standing = read_times(&times).map_err(|error| self.postgres.failed(ACTION, error))?;
        let milliseconds = |of: std::time::Duration| i64::try_from(of.as_millis()).unwrap_or(i64::MAX / 4);
        let orphans = sqlx::query(ORPHANS)
            .bind(milliseconds(OVERDUE_AFTER))
            .bind(milliseconds(graces.tombstoned))
            .bind(milliseconds(graces.departed))
            .bind(milliseconds(graces.stranger))
            .fetch_all(&self.pool);
        let orphans = self.call(ACTION, orphans).await?;
        let groups: Result<_, sqlx::Error> = orphans.iter().map(read_group).collect();
        standing.orphans = groups.map_err(|error| self.postgres.failed(ACTION, error))?;
        if standing.last_ended.is_some() && standing.last_ended != known {
            let seen = sqlx::query_scalar::<_, Json<serde_json::Value>>(SEEN).fetch_one(&self.pool);
            let Json(seen) = self.call(ACTION, seen).await?;
            // A report that another version wrote must not keep this one from its work.
            standing.seen = serde_json::from_value(seen)
                .inspect_err(|error| tracing::warn!(%error, "the last report cannot be read for the metrics"))
                .ok();
        }
        Ok(standing)
    }
}

fn read_times(row: &PgRow) -> Result<Standing, sqlx::Error> {
    Ok(Standing {
        now: row.try_get("now")?,
        last_start: row.try_get("last_start")?,
        last_success: row.try_get("last_success")?,
        last_clean: row.try_get("last_clean")?,
        last_unfailed: row.try_get("last_unfailed")?,
        last_ended: row.try_get("last_ended")?,
        paused: row.try_get("paused")?,
        open_requests: counted(row.try_get("open_requests")?),
        oldest_request: row.try_get("oldest_request")?,
        orphans: Vec::new(),
        seen: None,
    })
}

fn read_group(row: &PgRow) -> Result<OrphanGroup, sqlx::Error> {
    let evidence: &str = row.try_get("evidence")?;
    let unknown = || sqlx::Error::Decode(format!("{evidence:?} is no evidence that this program knows").into());
    Ok(OrphanGroup {
        store: row.try_get("store")?,
        evidence: Evidence::named(evidence).ok_or_else(unknown)?,
        decision: row.try_get("decision")?,
        orphans: counted(row.try_get("orphans")?),
        late: counted(row.try_get("late")?),
        first_seen: row.try_get("first_seen")?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::DateTime;
    use sandbox::Database;
    use serde_json::json;

    use super::*;
    use crate::domain::standing::{Seen, SeenLive, SeenQuarantine, SeenSource, SeenStore};
    use crate::ledger::Ledger;
    use crate::ledger::tests::ledger;

    async fn run(
        ledger: &PostgresLedger,
        number: u128,
        (mode, verdict): (&str, &str),
        report: serde_json::Value,
    ) -> Uuid {
        let id = Uuid::from_u128(number);
        sqlx::query(
            "INSERT INTO course_gc.runs (id, mode, started_at, finished_at, verdict, report) VALUES ($1, $2, $3, $3, $4, $5)",
        )
        .bind(id)
        .bind(mode)
        .bind(at(number as i64))
        .bind(verdict)
        .bind(report)
        .execute(&ledger.pool)
        .await
        .unwrap();
        id
    }

    fn at(seconds: i64) -> DateTime<chrono::Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn graces() -> Graces {
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
        Graces { tombstoned: minute, departed: hour, stranger: 24 * hour }
    }

    fn whole() -> serde_json::Value {
        let source = json!({ "name": "{course_id}", "live_courses": 5, "live_resources": 50,
            "unrecognised": { "count": 4 }, "orphans": [{ "resources": 3 }, { "resources": 4 }] });
        let store = |name: &str, complete: bool, sources: serde_json::Value, why: Option<&str>| {
            json!({ "name": name, "complete": complete, "quarantined": true, "not_adopted": why,
                "unclaimed": { "count": 9 }, "sources": sources })
        };
        json!({
            "halt": null, "halts": [], "live": [{ "source": "union", "live": 5, "highest": 6 }],
            "quarantine": { "copies": 2, "bytes": 30, "oldest": "1970-01-01T00:00:07Z" },
            "stores": [store("cache", true, json!([source]), None), store("jobs", false, json!([]), Some("not ours"))],
        })
    }

    #[tokio::test]
    async fn a_new_ledger_knows_nothing() {
        let database = Database::create().await.unwrap();
        let standing = ledger(&database).await.standing(&graces(), None).await.unwrap();
        assert_eq!(standing, Standing { now: standing.now, ..Standing::default() });
        assert!(standing.now > at(1_000_000_000));
    }

    #[tokio::test]
    async fn what_the_last_runs_saw_is_told_once_and_without_a_course() {
        let database = Database::create().await.unwrap();
        let ledger = ledger(&database).await;
        run(&ledger, 10, ("run", "clean"), whole()).await;
        let done = run(&ledger, 20, ("run", "done"), whole()).await;
        // One that halted looked at no store, and one that failed has nothing to tell.
        let halt = json!({ "halt": "another database", "halts": [], "live": [], "quarantine": null, "stores": [] });
        let halted = run(&ledger, 30, ("run", "held"), halt).await;
        let failed = run(&ledger, 40, ("run", "failed"), json!({ "error": "no answer" })).await;
        let standing = ledger.standing(&graces(), Some(done)).await.unwrap();
        assert_eq!((standing.last_start, standing.last_success), (Some(at(40)), Some(at(20))));
        assert_eq!((standing.last_clean, standing.paused), (Some(at(10)), false));
        assert_eq!((standing.last_ended, standing.last_unfailed), (Some(failed), Some(halted)));
        let cache = SeenStore {
            name: "cache".into(),
            complete: true,
            adopted: true,
            quarantined: true,
            unclaimed: 9,
            sources: vec![SeenSource {
                name: "{course_id}".into(),
                live_courses: 5,
                live_resources: 50,
                orphans: 2,
                orphan_resources: 7,
                unrecognised: 4,
            }],
        };
        let jobs =
            SeenStore { name: "jobs".into(), complete: false, adopted: false, sources: Vec::new(), ..cache.clone() };
        let quarantine =
            SeenQuarantine { copies: 2, bytes: 30, archive_bytes: None, free_percent: None, oldest: Some(at(7)) };
        let seen = Seen {
            halted: true,
            misplaced: true,
            live: vec![SeenLive { source: "union".into(), live: 5 }],
            quarantine: Some(quarantine),
            stores: vec![cache, jobs],
        };
        assert_eq!(standing.seen, Some(seen));
        assert_eq!(ledger.standing(&graces(), Some(failed)).await.unwrap().seen, None, "it is known");
    }

    #[tokio::test]
    async fn s6_an_orphan_is_late_a_day_after_the_grace_of_its_evidence() {
        let database = Database::create().await.unwrap();
        let ledger = ledger(&database).await;
        // By course: its evidence, decision, and how long it has been an orphan, in hours.
        let insert = "INSERT INTO course_gc.orphans (store, source, course_id, evidence, decision, resources, fingerprint, \
             entangled, first_seen, seen_run, seen_at, accrued_ms) VALUES ('cache', 's', $1, $2, $3, 1, 0, 0, to_timestamp($1::int), \
             gen_random_uuid(), now(), $4 * 3600000)";
        for (course, (evidence, decision, hours)) in
            [("departed", "sweep", 26), ("departed", "sweep", 24), ("requested", "cap", 25), ("stranger", "grace", 40)]
                .into_iter()
                .enumerate()
        {
            let row = sqlx::query(insert).bind(course.to_string()).bind(evidence).bind(decision).bind(hours);
            row.execute(&ledger.pool).await.unwrap();
        }
        let mut orphans = ledger.standing(&graces(), None).await.unwrap().orphans;
        orphans.sort_by_key(|group| group.evidence);
        let told: Vec<_> = orphans
            .iter()
            .map(|it| (it.evidence.as_str(), it.decision.as_deref(), it.orphans, it.late, it.first_seen))
            .collect();
        let expected = [
            ("requested", Some("cap"), 1, 1, at(2)),
            ("departed", Some("sweep"), 2, 1, at(0)),
            ("stranger", Some("grace"), 1, 0, at(3)),
        ];
        assert_eq!(told, expected);
    }
}
