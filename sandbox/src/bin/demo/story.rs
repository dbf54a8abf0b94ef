//! What the demo does, a step a heading.

use std::collections::BTreeSet;
use std::io::{IsTerminal, stdout};
use std::time::Duration;

use anyhow::{Context, Result};
use sandbox::campus::{Campus, CampusSize, CourseId, Doom};
use sandbox::config::Settings;
use sandbox::{Addresses, Resource, Servers, Snapshot, Stores, free_port};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::program::Program;
use crate::proof::{self, Count};
use crate::reasons::{self, Expected};

/// How long a course must have been gone before it is swept.
const GRACE: &str = "3s";
/// How long the demo waits for that grace to pass.
const GRACE_PASSES_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// As many lines of a plan as show what it is: every source, and some of the decisions.
const PLAN_SHOWN: usize = 34;
/// One empty line is before the table of a plan or a report, one after it.
const TABLE_ENDS_AT: usize = 2;

/// A campus that was cleaned, and what it ran on.
pub struct Story {
    /// Whether everything in the stores is as it should be.
    pub proven: bool,
    /// The collector.
    pub program: Program,
    /// Where the stores are.
    pub addresses: Addresses,
    /// The platform.
    pub campus: Campus,
    /// Its courses that were deleted, but for the one that came back.
    pub deleted: Vec<CourseId>,
    /// Where `serve` listens.
    pub settings: Settings,
    /// What keeps the servers alive.
    _servers: Servers,
}

impl Story {
    /// Tells it.
    pub async fn tell() -> Result<Self> {
        step("A course platform: Postgres, Redis with BullMQ, Qdrant, an S3 bucket and folders, on free ports");
        let servers = Servers::start().await?;
        let addresses = servers.addresses();
        let stores = Stores::connect(&addresses).await?;
        let campus = seed(&stores).await?;

        step("course-gc is told that these databases and stores are ours, and learns which courses are live");
        let settings = settings()?;
        let program = Program::configured(&addresses, &settings)?;
        show(&program, &["migrate"], Lines::All).await?;
        show(&program, &["adopt", "--yes"], Lines::All).await?;
        show(&program, &["run"], Lines::First(0)).await?;

        step("The platform deletes courses, and forgets what they left in the stores");
        let deleted = delete(&campus, &stores).await?;
        let before = Snapshot::take(&stores).await?;

        step(&format!(
            "course-gc sees the leaks, and waits: a course must have been gone for {GRACE} (by default 24h)"
        ));
        show(&program, &["plan"], Lines::OneAStore).await?;
        let untouched = before.diff(&Snapshot::take(&stores).await?) == Default::default();

        wait_for_grace(&program).await?;
        step("The grace has passed: this would go");
        show(&program, &["plan"], Lines::First(PLAN_SHOWN)).await?;

        step("And now it goes");
        show(&program, &["run"], Lines::OneAStore).await?;
        let run = latest_report(&program).await?;

        step("Proof: counted in the stores themselves, byte for byte, without asking course-gc");
        let after = Snapshot::take(&stores).await?;
        let mut proven = proof::show(&campus.fates(&deleted), &before, &after);
        proven &= proof::check("planning changed no store", untouched);

        step("What stays, and why, as course-gc explains it");
        let left = program.json(&["plan"]).await?;
        proven &= reasons::show(Expected::of(&campus, &addresses, &deleted, &after), &run, &left);

        step("One of these courses should not have been deleted: what it had comes back");
        let course = campus.richest(&addresses, &deleted).context("nothing was deleted")?;
        show(&program, &["restore", "--course", &course.to_string()], Lines::OneAStore).await?;
        let back = Snapshot::take(&stores).await?;
        let difference = before.diff(&back);
        let its: BTreeSet<Resource> =
            campus.only(course).gone(&deleted).into_iter().filter(|it| before.contains(it)).collect();
        let claim = format!("all of it is there: {}", Count::of(&its).words());
        proven &= proof::check(&claim, its.iter().all(|it| back.contains(it)));
        let others = campus.gone(&deleted).into_iter().filter(|resource| !its.contains(resource));
        proven &= proof::check("nothing of the others is", others.filter(|it| back.contains(it)).count() == 0);
        let as_it_was = difference.changed.is_empty() && difference.added.is_empty();
        proven &= proof::check("everything that is there is as it was, byte for byte", as_it_was);
        println!("\n{}", if proven { "Exactly the leaks are gone." } else { "FAILED: see the lines marked ✗." });
        let deleted = deleted.into_iter().filter(|it| *it != course).collect();
        Ok(Self { proven, program, addresses, campus, deleted, settings, _servers: servers })
    }
}

/// The breakers and limits are the defaults; the grace and the schedule of `serve` are short enough to be watched.
fn settings() -> Result<Settings> {
    let listen = ([127, 0, 0, 1], free_port()?).into();
    Ok(Settings { departed: GRACE.to_owned(), cron: "*/10 * * * * *".to_owned(), listen, ..Settings::default() })
}

async fn seed(stores: &Stores) -> Result<Campus> {
    let size =
        CampusSize { organizations: 8, courses: 80, foreign: 5, points: 20, vector_size: 768, ..CampusSize::default() };
    let campus = Campus::whole(size);
    campus.seed(stores).await?;
    println!(
        "{} courses of {} organizations, with {};\n\
         among them what another environment keeps in the same stores, what is no course's, and what only looks like it.",
        campus.courses.len(),
        campus.organizations.len(),
        Count::of(Snapshot::take(stores).await?.resources()).words(),
    );
    Ok(campus)
}

async fn delete(campus: &Campus, stores: &Stores) -> Result<BTreeSet<CourseId>> {
    let deleted = campus.delete_doomed(stores).await?;
    let count = |doom| campus.courses.iter().filter(|course| course.doom == Some(doom)).count();
    println!(
        "{:>3} through a delete path that cleans one kind of key and forgets the rest",
        count(Doom::ForgetfulPath)
    );
    println!("{:>3} with their organization, by a cascade in Postgres", count(Doom::Cascade));
    println!("{:>3} by the job that drops old drafts", count(Doom::OldDraft));
    Ok(deleted)
}

/// Waits until a plan would sweep something. Each plan adds to the orphans' clocks, as a scheduled run would.
async fn wait_for_grace(program: &Program) -> Result<()> {
    let look = async {
        while !reasons::orphans(&program.json(&["plan"]).await?).any(|orphan| orphan.sweeps()) {
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    };
    let within = timeout(GRACE_PASSES_WITHIN, look).await;
    within.with_context(|| format!("no sweep is planned after {GRACE_PASSES_WITHIN:?}; the grace is {GRACE}"))?
}

/// What the latest run reported, from the ledger.
async fn latest_report(program: &Program) -> Result<Value> {
    let status = program.json(&["status"]).await?;
    status.pointer("/runs/0/report").cloned().context("the ledger has no report of the run")
}

/// Which lines of what a command says are shown; `…` stands for the others.
#[derive(Clone, Copy)]
enum Lines {
    /// All of them.
    All,
    /// So many, and the last, which sums it up.
    First(usize),
    /// Of those that begin with the same word, as all that are about one store do, the first; no more than the first table; and
    /// the last.
    OneAStore,
}

/// Runs a command, and shows it with what it says.
async fn show(program: &Program, arguments: &[&str], lines: Lines) -> Result<()> {
    println!("{}", bold(&format!("$ course-gc {}", arguments.join(" "))));
    let text = program.text(arguments).await?;
    let all: Vec<&str> = text.trim_end().lines().map(str::trim_end).collect();
    let Some((last, rest)) = all.split_last() else { return Ok(()) };
    let (mut words, mut blank, mut shown) = (BTreeSet::new(), 0, 0);
    for line in rest {
        blank += usize::from(line.is_empty());
        let is_shown = match lines {
            Lines::All => true,
            Lines::First(count) => shown < count,
            Lines::OneAStore => {
                blank < TABLE_ENDS_AT && line.split_whitespace().next().is_none_or(|word| words.insert(word))
            }
        };
        if is_shown {
            println!("{line}");
            shown += 1;
        }
    }
    if shown > 0 && shown < rest.len() {
        println!("… {} lines more", rest.len() - shown);
    }
    println!("{last}");
    Ok(())
}

fn step(title: &str) {
    println!("\n{}", bold(&format!("== {title}")));
}

fn bold(text: &str) -> String {
    if stdout().is_terminal() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}
