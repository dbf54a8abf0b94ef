//! The ways in which the platform's courses vanish. Each leaves something behind.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::{Campus, CourseId, Doom, IdKind, TextId};
use crate::Stores;

impl Campus {
    /// Deletes every doomed course in the way meant for it, and returns their ids.
    ///
    /// # Errors
    ///
    /// When a store cannot be written.
    pub async fn delete_doomed(&self, stores: &Stores) -> Result<BTreeSet<CourseId>> {
        let forgotten = |course: &&super::Course| course.doom == Some(Doom::ForgetfulPath);
        for course in self.courses.iter().filter(forgotten) {
            self.delete_through_forgetful_path(stores, course.id).await?;
        }
        if let Some(organization) = self.closing_organization() {
            self.delete_organization_cascade(stores, organization).await?;
        }
        self.drop_old_drafts(stores).await?;
        Ok(self.doomed())
    }

    /// The organization all of whose courses are doomed.
    pub fn closing_organization(&self) -> Option<Uuid> {
        self.organizations.last().map(|organization| organization.id)
    }

    /// Deletes a course as the platform's own delete path does at its worst: the keys that begin with
    /// `idempotency:generation-` go, everything else is forgotten, and the row is deleted.
    ///
    /// # Errors
    ///
    /// When a store cannot be written.
    pub async fn delete_through_forgetful_path(&self, stores: &Stores, course: CourseId) -> Result<()> {
        let prefix = format!("idempotency:generation-{course}-");
        let mut redis = stores.redis.clone();
        for key in self.keys.iter().filter(|key| key.name.starts_with(&prefix)) {
            redis::cmd("UNLINK").arg(&key.name).query_async::<()>(&mut redis).await?;
        }
        self.delete_row(stores, course).await
    }

    /// Deletes a course's row and nothing else.
    ///
    /// # Errors
    ///
    /// When Postgres refuses.
    pub async fn delete_row(&self, stores: &Stores, course: CourseId) -> Result<()> {
        let statement = format!("DELETE FROM public.courses WHERE id = $1::{}", self.id_type());
        sqlx::query(AssertSqlSafe(statement)).bind(course.to_string()).execute(&stores.postgres).await?;
        Ok(())
    }

    /// Deletes an organization. Its courses and their catalog go by cascade. Returns those courses.
    ///
    /// # Errors
    ///
    /// When Postgres refuses.
    pub async fn delete_organization_cascade(&self, stores: &Stores, organization: Uuid) -> Result<BTreeSet<CourseId>> {
        let before = self.ids(stores, "SELECT id::text FROM public.courses WHERE organization_id = $1", organization);
        let courses = before.await?;
        sqlx::query("DELETE FROM public.organizations WHERE id = $1")
            .bind(organization)
            .execute(&stores.postgres)
            .await?;
        Ok(courses)
    }

    /// Runs the job that drops drafts older than 30 days. Returns their courses.
    ///
    /// # Errors
    ///
    /// When Postgres refuses.
    pub async fn drop_old_drafts(&self, stores: &Stores) -> Result<BTreeSet<CourseId>> {
        let job = "DELETE FROM public.courses
                   WHERE status = $1 AND created_at < now() - interval '30 days' RETURNING id::text";
        self.ids(stores, job, "draft").await
    }

    /// Brings a course's row back, as a restored backup or an undo would.
    ///
    /// # Errors
    ///
    /// When the course is none of this campus or Postgres refuses.
    pub async fn revive(&self, stores: &Stores, course: CourseId) -> Result<()> {
        self.course(course).with_context(|| format!("course {course} is not in this campus"))?;
        self.only(course).seed_rows(stores).await
    }

    async fn ids<T>(&self, stores: &Stores, statement: &'static str, argument: T) -> Result<BTreeSet<CourseId>>
    where
        T: for<'q> sqlx::Encode<'q, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + 'static,
    {
        let found: Vec<String> = sqlx::query_scalar(statement).bind(argument).fetch_all(&stores.postgres).await?;
        let parse = |text: String| {
            Ok(match self.size.ids {
                IdKind::Uuid => CourseId::Uuid(text.parse()?),
                IdKind::Integer => CourseId::Integer(text.parse()?),
                IdKind::Text => CourseId::Text(TextId::parse(&text)?),
            })
        };
        found.into_iter().map(parse).collect()
    }
}
