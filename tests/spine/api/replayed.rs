//! A call that somebody kept, token and all, and sends again.

use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::json;

use super::scene::{Answer, BOSS, Scene, answered, jwt, seconds, with};
use crate::support::eventually;
use sandbox::campus::CourseId;

/// A call as it was heard, and as it can be said again.
struct Heard {
    path: String,
    token: String,
    key: Option<&'static str>,
}

impl Heard {
    fn of(course: CourseId, key: Option<&'static str>) -> Self {
        let token = jwt("service_role", json!({ "jti": "one of its kind" }));
        Self { path: format!("/v1/courses/{course}/cleanup"), token, key }
    }

    async fn say(&self, scene: &Scene) -> Result<Answer> {
        let mut request = scene.ask(Method::POST, &self.path, &self.token);
        if let Some(key) = self.key {
            request = request.header("idempotency-key", key);
        }
        answered(with(request, &json!({ "intent": "after_delete" }))).await
    }
}

#[tokio::test]
async fn s1_s12_a_call_that_is_said_again_deletes_nothing_that_came_back() -> Result<()> {
    let scene = Scene::set().await?;
    let course = scene.doomed(0);
    scene.delete_row(course).await?;
    let before = scene.snapshot().await?;
    let heard = [Heard::of(course, Some("a key")), Heard::of(course, None)];
    let first = heard[0].say(&scene).await?;
    assert_eq!((first.status, &first.json["answer"]["success"]), (200, &true.into()), "{first:?}");
    let after = scene.snapshot().await?;
    assert_eq!(before.diff(&after).gone, scene.campus.gone(&[course].into()));

    // Of what has gone, nothing more goes; and the key gives the same answer.
    for call in &heard {
        let again = call.say(&scene).await?;
        assert_eq!(again.status, 200, "{again:?}");
        assert_eq!(again.json["id"] == first.json["id"], call.key.is_some(), "{again:?}");
    }
    assert_eq!(scene.snapshot().await?, after);

    // A person brought its data back: they stay, though its row is gone.
    let restored = scene.send(Method::POST, "/v1/restore", BOSS, &json!({ "course": course.to_string() })).await?;
    assert_eq!(restored.status, 200, "{restored:?}");
    for call in &heard {
        call.say(&scene).await?;
    }
    let again = heard[1].say(&scene).await?;
    assert_eq!((again.status, &again.json["answer"]["verified"]), (200, &false.into()), "{again:?}");
    assert_eq!(scene.snapshot().await?, before);

    // And its row came back: it lives.
    scene.campus.revive(&scene.installation.stores, course).await?;
    let alive = scene.snapshot().await?;
    let again = heard[1].say(&scene).await?;
    assert_eq!(again.status, 409, "{again:?}");
    heard[0].say(&scene).await?;
    assert_eq!(scene.snapshot().await?, alive);
    scene.end().await
}

#[tokio::test]
async fn a_token_that_is_shown_again_is_good_until_it_expires_and_never_after() -> Result<()> {
    let scene = Scene::set().await?;
    let course = scene.doomed(0);
    // What is left of the leeway of 30 s.
    let token = jwt("service_role", json!({ "exp": seconds(-20) }));
    let path = format!("/v1/courses/{course}/trace");
    for _ in 0..2 {
        assert_eq!(scene.get(&path, &token).await?.status, 200);
    }
    let late = eventually("it has expired", async || {
        let answer = scene.get(&path, &token).await?;
        Ok((answer.status != 200).then_some(answer))
    })
    .await?;
    assert_eq!(late.status, 401, "{late:?}");
    let why = late.json["detail"].as_str().context("no reason")?;
    assert!(why.contains("expired"), "{late:?}");
    scene.end().await
}
