//! Which database a liveness source is, and where in its history (S7), as far as the server tells.

use sqlx::PgConnection;

use super::relations::Behind;
use crate::domain::ids::IdType;
use crate::domain::inventory::fingerprint;
use crate::domain::pins::{Position, SourcePin};
use crate::postgres::{Postgres, PostgresError, system, told};

/// The first digits of a write-ahead log file's name are its timeline.
const TIMELINE_DIGITS: usize = 8;
const WAL_FILE: &str = "SELECT pg_walfile_name(pg_current_wal_lsn())";
/// Where the next record goes: whatever is visible was written before it, be it on disk or not.
const LSN: &str = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint::text";

/// The source's pin and position.
///
/// # Errors
/// If the server does not answer. What it withholds is left out.
pub(super) async fn identify(
    postgres: &Postgres,
    connection: &mut PgConnection,
    id_type: IdType,
    query: &str,
    behind: Behind,
) -> Result<(SourcePin, Position), PostgresError> {
    let database = sqlx::query_scalar("SELECT current_database()::text").fetch_one(&mut *connection);
    let database = postgres.call("asking for the database's name", database).await?;
    let system = system(postgres, connection).await?;
    // The control file's timeline lags behind after a promotion; the log file's name does not.
    let wal_file = told(postgres, connection, WAL_FILE).await?;
    let lsn = told(postgres, connection, LSN).await?;
    let pin = SourcePin {
        system,
        database,
        id_type: id_type.to_string(),
        query: format!("{:016x}", fingerprint(query.as_bytes())),
        relations: behind.relations,
    };
    Ok((pin, position(wal_file.as_deref(), lsn.as_deref())))
}

/// Where the source is now, asked as part of a question; what it withheld before (`first`) is not asked again.
///
/// # Errors
/// If the server does not answer.
pub(super) async fn locate(
    postgres: &Postgres,
    connection: &mut PgConnection,
    first: &Position,
) -> Result<Position, PostgresError> {
    const ACTION: &str = "asking where in its history it is";
    let mut ask = async |told: bool, query: &'static str| match told {
        true => {
            let value = sqlx::query_scalar::<_, String>(query).fetch_one(&mut *connection);
            postgres.call(ACTION, value).await.map(Some)
        }
        false => Ok(None),
    };
    let wal_file = ask(first.timeline.is_some(), WAL_FILE).await?;
    let lsn = ask(first.lsn.is_some(), LSN).await?;
    Ok(position(wal_file.as_deref(), lsn.as_deref()))
}

fn position(wal_file: Option<&str>, lsn: Option<&str>) -> Position {
    let digits = wal_file.and_then(|name| name.get(..TIMELINE_DIGITS));
    Position {
        timeline: digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()),
        lsn: lsn.and_then(|lsn| lsn.parse().ok()),
    }
}
