//! `course-gc serve` over the campus, until Ctrl-C.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use sandbox::{Objects, Prometheus, Watching, program};
use tokio::process::Command;

use crate::life::Life;
use crate::program::TOKEN;
use crate::story::Story;

/// Runs its arguments until its own standard input ends, and then tells them to end: also when the demo is killed.
const LIFELINE: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
{ while read -r _ <&3; do :; done; kill -s TERM "$server"; } &
exec 3<&-
wait "$server"
"#;

/// The alerts, as they are shipped.
const RULES: &str = include_str!("../../../../alerts/course-gc.yaml");

/// Serves until `asked_to_stop` resolves; then lets the program end in order.
pub async fn serve(story: &Story, asked_to_stop: impl Future<Output = ()>) -> Result<()> {
    let Story { addresses, settings, program: course_gc, campus, deleted, .. } = story;
    let mut serve = Command::new(program("sh")?)
        .args(["-c", LIFELINE, "lifeline"])
        .arg(course_gc.path())
        .args(["serve", "--config"])
        .arg(course_gc.config())
        .envs(course_gc.environment().iter().cloned())
        .stdin(Stdio::piped())
        // Ctrl-C goes to the whole group: the demo gets it, and hands it on once.
        .process_group(0)
        .spawn()
        .context("starting course-gc serve")?;
    let lifeline = serve.stdin.take();
    let prometheus = Prometheus::start(&Watching { interval: "5s", rules: RULES.to_owned() }).await?;
    prometheus.scrape(&[("course-gc", settings.listen)])?;
    println!("\nRunning until Ctrl-C, with a run every ten seconds:");
    println!("  Postgres       {}", addresses.postgres);
    println!("  Redis          {}", addresses.redis);
    println!("  Qdrant (gRPC)  {}, collection {}", addresses.qdrant, addresses.alias);
    if let Some(objects) = &addresses.objects {
        println!("  S3             {objects}, bucket {}", Objects::BUCKET);
    }
    println!("  folders        {}/uploads and enrichments", addresses.files.display());
    println!("  configuration  {}", course_gc.config().display());
    let url = format!("http://{}", settings.listen);
    println!("  metrics        {url}/metrics (and /healthz, /readyz)");
    println!("  API            {url}/openapi.json, token {TOKEN}");
    println!("  Prometheus     {} scrapes them, and shows the alerts (under \"Alerts\")\n", prometheus.url());
    println!("In another terminal, to ask course-gc, or to delete a course and see its leaks go:");
    for (name, value) in course_gc.environment() {
        println!("  export {name}={value}");
    }
    println!("  {} plan --config {}", course_gc.path().display(), course_gc.config().display());
    println!("  psql {} -c 'DELETE FROM courses WHERE slug = (SELECT min(slug) FROM courses)'\n", addresses.postgres);
    let life = Life { campus: campus.clone(), courses: deleted.clone(), api: url };
    let ended = tokio::select! {
        failed = life.go_on(addresses) => return failed.context("the platform's own life"),
        ended = serve.wait() => bail!("course-gc serve ended by itself with {}", ended?),
        () = asked_to_stop => {
            drop(lifeline);
            serve.wait().await?
        }
    };
    if !ended.success() {
        bail!("course-gc serve ended with {ended} (signal {:?})", ended.signal());
    }
    Ok(())
}
