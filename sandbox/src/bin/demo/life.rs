//! What goes on at a platform that is left running: somebody looks at the runs, a course is made and deleted, and what it left is cleaned up,
//! every other time by a call of the API. Beside what a person does, it is what keeps every panel of the dashboards drawn.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{Client, RequestBuilder, StatusCode};
use sandbox::campus::{Campus, CourseId};
use sandbox::{Addresses, Stores};
use tokio::time::{interval, sleep};

use crate::program::TOKEN;

/// How often somebody looks at the runs.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often a course is made and deleted: more seldom than `serve` runs, so that some leaks are seen by a run of their own.
const COURSE_EVERY: Duration = Duration::from_secs(15);
/// How long it lives.
const LIFETIME: Duration = Duration::from_secs(3);

/// The platform, and the API that it calls.
pub struct Life {
    /// The campus.
    pub campus: Campus,
    /// Courses of it that were deleted, and of which nothing has to stay: they come and go.
    pub courses: Vec<CourseId>,
    /// The address of the API.
    pub api: String,
}

impl Life {
    /// Goes on until something fails, or it is dropped.
    ///
    /// # Errors
    /// When a store or the API does not do as it is asked.
    pub async fn go_on(&self, addresses: &Addresses) -> Result<()> {
        let (stores, client) = (Stores::connect(addresses).await?, Client::new());
        tokio::try_join!(self.look(&client), self.teach(&client, &stores))?;
        Ok(())
    }

    /// Looks at the runs.
    async fn look(&self, client: &Client) -> Result<()> {
        let mut ticks = interval(LOOK_EVERY);
        loop {
            ticks.tick().await;
            ask(client.get(format!("{}/v1/runs?limit=5", self.api))).await?;
        }
    }

    /// Makes courses and deletes them.
    async fn teach(&self, client: &Client, stores: &Stores) -> Result<()> {
        let mut ticks = interval(COURSE_EVERY);
        for (nth, course) in self.courses.iter().cycle().enumerate() {
            ticks.tick().await;
            // Adding some jobs without the others would hand a worker of the campus another job than it is meant to hold.
            let its = Campus { jobs: Vec::new(), ..self.campus.only(*course) };
            its.seed_rows(stores).await?;
            its.seed_resources(stores).await?;
            sleep(LIFETIME).await;
            self.campus.delete_row(stores, *course).await?;
            if nth % 2 == 0 {
                let cleanup = client.post(format!("{}/v1/courses/{course}/cleanup", self.api));
                let gone = r#"{ "intent": "after_delete" }"#;
                ask(cleanup.header("content-type", "application/json").body(gone)).await?;
            }
        }
        Ok(())
    }
}

/// Asks the API as the platform. Before it is there nobody minds.
async fn ask(request: RequestBuilder) -> Result<()> {
    match request.bearer_auth(TOKEN).send().await {
        Ok(answer) => {
            let (status, url) = (answer.status(), answer.url().clone());
            ensure!(
                status.is_success() || status == StatusCode::SERVICE_UNAVAILABLE,
                "{url} was answered {status}: {}",
                answer.text().await.unwrap_or_default()
            );
            Ok(())
        }
        Err(error) if error.is_connect() => Ok(()),
        Err(error) => Err(error).context("asking the API"),
    }
}
