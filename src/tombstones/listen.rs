//! The hint that somebody was buried: it makes the next look sooner, and nothing else depends on it.

use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::Tombstones;
use super::sql::CHANNEL;
use crate::errors::chain;
use crate::postgres::PostgresError;

/// However many deletes come within this time, they are one hint.
const AT_ONCE: Duration = Duration::from_millis(500);
/// How long nothing is heard before we ask whether the server is still there.
const SILENCE: Duration = Duration::from_secs(60);
/// How long after a connection was lost another one is tried.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);
const ACTION: &str = "listening for new tombstones";

impl Tombstones {
    /// Calls `hint` soon after somebody was buried, over a connection of its own, for ever. What is told while there is none is lost.
    pub async fn listen(&self, hint: impl Fn()) {
        // One line in the log for each time that it is lost, however long that lasts.
        let mut is_told = false;
        loop {
            let ended = match self.listener().await {
                Ok(listener) => {
                    is_told = false;
                    self.hear(listener, &hint).await
                }
                Err(error) => error,
            };
            if !is_told {
                is_told = true;
                let error = chain(&ended);
                tracing::warn!(error, "nobody tells of new tombstones; they are looked for as often as ever");
            }
            sleep(LISTEN_AGAIN).await;
        }
    }

    async fn listener(&self) -> Result<PgListener, PostgresError> {
        let postgres = &self.postgres;
        // The only way in which the client hands notifications on; its connection is not another's.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(postgres.call_timeout)
            .connect_lazy_with(postgres.options()?);
        let mut listener = postgres.call(ACTION, PgListener::connect_with(&pool)).await?;
        listener.eager_reconnect(false);
        postgres.call(ACTION, listener.listen(CHANNEL)).await?;
        Ok(listener)
    }

    /// Until the connection ends; why it did.
    async fn hear(&self, mut listener: PgListener, hint: &impl Fn()) -> PostgresError {
        loop {
            let is_hint = match timeout(SILENCE, listener.try_recv()).await {
                Ok(heard) => self.heard(heard).map(|()| true),
                Err(_) => {
                    self.postgres.call(ACTION, sqlx::query("SELECT 1").execute(&mut listener)).await.map(|_| false)
                }
            };
            match is_hint {
                Ok(true) => {}
                Ok(false) => continue,
                Err(ended) => return ended,
            }
            let until = Instant::now() + AT_ONCE;
            while let Ok(more) = timeout_at(until, listener.try_recv()).await {
                if let Err(ended) = self.heard(more) {
                    return ended;
                }
            }
            hint();
        }
    }

    /// The client says with nothing that the connection has ended.
    fn heard<T>(&self, heard: Result<Option<T>, sqlx::Error>) -> Result<(), PostgresError> {
        match heard {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(self.postgres.nonsense("the connection that listened for new tombstones ended")),
            Err(error) => Err(self.postgres.failed(ACTION, error)),
        }
    }
}
