//! The API is what its description says: tried by Schemathesis, which makes requests of the description, good ones and bad ones.

use std::time::Duration;

use anyhow::{Context, Result};
use sandbox::Python;
use tokio::time::timeout;

use super::scene::{BOSS, Scene, WEB};

/// How long it may take.
const LIMIT: Duration = Duration::from_secs(300);
/// What every answer is looked at for: that the server is not at fault, and that it answers as it says it does.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
                      response_headers_conformance,ignored_auth,unsupported_method";

#[tokio::test]
async fn whatever_is_asked_the_answer_is_as_described_and_nothing_live_is_lost() -> Result<()> {
    let scene = Scene::set().await?;
    let before = scene.snapshot().await?;
    // One may ask for cleanups, the other may do what a person does. (Its third phase, `coverage`, ends in an error of Python 3.11's own.)
    for token in [WEB, BOSS] {
        let mut command = Python::command("schemathesis.cli")?;
        command.args([
            "run",
            &scene.url("/openapi.json"),
            "--no-color",
            "--workers",
            "2",
            "--generation-deterministic",
        ]);
        command.args(["--checks", CHECKS, "--max-examples", "50", "--phases", "examples,fuzzing"]);
        command.args(["--header", &format!("Authorization: Bearer {token}")]).kill_on_drop(true);
        let output = timeout(LIMIT, command.output()).await.context("Schemathesis did not come to an end")??;
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
        let tested = told.lines().find_map(|line| line.trim().strip_prefix("Tested: ")).context("it says how many")?;
        assert!(tested.parse::<u32>()? >= 13, "every operation: {told}");
    }
    assert_eq!(scene.snapshot().await?, before);
    Ok(())
}
