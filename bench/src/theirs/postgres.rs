//! COPY, and nothing done with it.

use std::time::Instant;

use anyhow::Result;
use futures::TryStreamExt;
use sandbox::program;
use sqlx::postgres::PgPoolCopyExt;

use crate::contest::{Timed, outside};

/// What is copied.
pub(crate) const COPY: &str = "COPY (SELECT id FROM public.courses) TO STDOUT (FORMAT binary)";

/// Reads binary COPY by the client that we use, and drops it.
pub(crate) async fn copy_to_null(url: &str) -> Result<Timed> {
    let pool = sqlx::PgPool::connect(url).await?;
    let began = Instant::now();
    let mut chunks = pool.copy_out_raw(COPY).await?;
    let mut bytes = 0;
    while let Some(chunk) = chunks.try_next().await? {
        bytes += chunk.len() as u64;
    }
    let seconds = began.elapsed().as_secs_f64();
    // A header of 19 bytes, a trailer of 2, and 22 a row.
    Ok(Timed { seconds, courses: bytes.saturating_sub(21) / 22, ..Timed::default() })
}

/// The same by `psql`, which is as fast as a client gets.
pub(crate) async fn psql_to_null(url: &str) -> Result<Timed> {
    outside(program("psql")?, &["--no-psqlrc", "--quiet", "--command", COPY, url], None).await
}
