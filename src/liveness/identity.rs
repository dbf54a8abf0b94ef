//! Which database a liveness source is, and where in its history (S7), as far as the server tells.

use sqlx::{PgConnection, Row};

use super::relations::Behind;
use crate::domain::ids::IdType;
use crate::domain::inventory::fingerprint;
use crate::domain::pins::{Position, SourcePin};
use crate::postgres::{Postgres, PostgresError};

/// Postgres's code for a function that the role may not call.
const INSUFFICIENT_PRIVILEGE: &str = "42501";
/// Postgres's code for a function that there is not, as on some managed servers.
const UNDEFINED_FUNCTION: &str = "42883";
/// The first digits of a write-ahead log file's name are its timeline.
const TIMELINE_DIGITS: usize = 8;

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
    const SYSTEM: &str = "SELECT system_identifier::text FROM pg_control_system()";
    const WAL_FILE: &str = "SELECT pg_walfile_name(pg_current_wal_lsn())";
    const LSN: &str = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint::text";
    let database = sqlx::query_scalar("SELECT current_database()::text").fetch_one(&mut *connection);
    let database = postgres.call("asking for the database's name", database).await?;
    let system = told(postgres, connection, SYSTEM).await?;
    // The control file's timeline lags behind after a promotion; the log file's name does not.
    let wal_file = told(postgres, connection, WAL_FILE).await?;
    let lsn = told(postgres, connection, LSN).await?;
    let digits = wal_file.as_ref().and_then(|name| name.get(..TIMELINE_DIGITS));
    let pin = SourcePin {
        system,
        database,
        id_type: match id_type {
            IdType::Uuid => "uuid".to_owned(),
            IdType::Integer => "integer".to_owned(),
        },
        query: format!("{:016x}", fingerprint(query.as_bytes())),
        relations: behind.relations,
    };
    let position = Position {
        timeline: digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()),
        lsn: lsn.and_then(|lsn| lsn.parse().ok()),
    };
    Ok((pin, position))
}

/// The one value of a query, or `None` if this server does not tell it to this role.
async fn told(
    postgres: &Postgres,
    connection: &mut PgConnection,
    query: &'static str,
) -> Result<Option<String>, PostgresError> {
    let ask = async {
        match sqlx::query(query).fetch_one(&mut *connection).await {
            Ok(row) => row.try_get(0).map(Some),
            Err(sqlx::Error::Database(error))
                if error.code().is_some_and(|code| code == INSUFFICIENT_PRIVILEGE || code == UNDEFINED_FUNCTION) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    };
    postgres.call("asking which database this is", ask).await
}
