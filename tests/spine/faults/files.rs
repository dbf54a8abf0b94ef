//! Files: roots that are not what they were, links and mounts, odd names, and what moves under the walk.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use course_gc::domain::report::Verdict;
use sandbox::config::environment;
use sandbox::{Difference, Resource, Snapshot};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::fault::Struck;
use super::matrix::{Most, Stage, When, play};
use super::{documented, holds_itself_only};
use crate::interposed::{Call, interpose};
use crate::outages::{Scene, activate, entry, went};

/// What is done with a root in a run, in order.
const STAGES: [Stage; 5] = [
    Stage { name: "before the run", when: When::First, most: Most::Nothing },
    Stage { name: "inventory", when: When::Before("uploads", Call::Inventory, &[]), most: Most::Nothing },
    Stage { name: "references", when: When::Before("uploads", Call::Referenced, &[]), most: Most::Nothing },
    Stage { name: "locate", when: When::Before("uploads", Call::Locate, &[]), most: Most::Nothing },
    Stage { name: "delete", when: When::Before("uploads", Call::Delete, &[]), most: Most::Nothing },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s4_s11_a_root_fails_at_every_stage() -> Result<()> {
    play(Struck::Files, &STAGES, 2).await
}

/// The campus' folder.
fn base(scene: &Scene) -> PathBuf {
    scene.installation.addresses.files.clone()
}

/// The directory of a dead course among the uploads.
fn dead(scene: &Scene) -> Result<PathBuf> {
    let files = scene.doomed.iter().filter_map(|resource| match resource {
        Resource::File(path) if path.starts_with("uploads/") => Some(path),
        _ => None,
    });
    let path = base(scene).join(files.clone().next().context("a dead course's file")?);
    Ok(path.parent().context("its directory")?.to_owned())
}

/// Lets the clocks run out that start anew with what a plan finds now.
async fn waited(scene: &Scene) -> Result<()> {
    scene.installation.plan().await?;
    scene.installation.age("1 minute").await
}

/// Waits out what was added to the scene. It is to go if it is below `doomed`.
async fn grown(scene: &mut Scene, doomed: &Path) -> Result<()> {
    waited(scene).await?;
    let before = Snapshot::take(&scene.installation.stores).await?;
    let Difference { gone, added, changed } = scene.before.diff(&before);
    ensure!(gone.is_empty() && changed.is_empty(), "{gone:?} {changed:?}");
    let below = format!("{}/", doomed.strip_prefix(base(scene))?.display());
    scene.doomed.extend(added.into_iter().filter(|it| matches!(it, Resource::File(path) if path.starts_with(&below))));
    scene.before = before;
    Ok(())
}

/// One run by the program, in a mount namespace of its own where this was done before; `None`, with a message, where the
/// machine does not allow it. Servers are reached as ever.
async fn run_behind(scene: &Scene, mounts: &str, paths: [&Path; 2]) -> Result<Option<(i32, Value)>> {
    let root = rustix::process::getuid().is_root();
    let unshare: &[&str] = if root { &["-m"] } else { &["-r", "-m"] };
    // The same mounts that the run needs, tried in the same way.
    let script = format!("({mounts}) || exit 99; shift 2; exec \"$@\"");
    let output = Command::new("unshare")
        .args(unshare)
        .args(["sh", "-c", &script, "sh"])
        .args(paths)
        .arg(env!("CARGO_BIN_EXE_course-gc"))
        .arg("--config")
        .arg(scene.installation.path())
        .args(["--output", "json", "run"])
        .envs(environment(&scene.installation.addresses))
        .output()
        .await;
    let refused = match &output {
        Err(error) => Some(error.to_string()),
        Ok(output) if output.status.code() == Some(99) || output.stderr.starts_with(b"unshare:") => {
            Some(String::from_utf8_lossy(&output.stderr).into_owned())
        }
        Ok(_) => None,
    };
    if let Some(why) = refused {
        eprintln!("skipped: this machine does not let us mount: {why}");
        return Ok(None);
    }
    let output = output?;
    let answer = serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
    Ok(Some((output.status.code().context("it was killed")?, answer)))
}

/// What the program says of a store.
fn said<'a>(report: &'a Value, store: &str) -> Result<&'a Value> {
    let mut stores = report["stores"].as_array().context("stores")?.iter();
    stores.find(|entry| entry["name"] == store).context("the store")
}

#[tokio::test]
async fn s7_an_empty_folder_in_the_roots_place_is_held() -> Result<()> {
    let scene = Scene::with(|_| ()).await?;
    let (root, aside) = (base(&scene).join("uploads"), base(&scene).with_extension("aside"));
    fs::rename(&root, &aside)?;
    fs::create_dir(&root)?;
    let report = activate(&scene, |_| ()).await?;
    fs::remove_dir(&root)?;
    fs::rename(&aside, &root)?;
    let happened = holds_itself_only(&scene, "uploads", &report, "its marker is gone").await?;
    // What was not there for a while is an orphan anew.
    waited(&scene).await?;
    scene.recovers().await?;
    documented("not mounted: an empty folder in its place", &happened, "s7_an_empty_folder_in_the_roots_place_is_held")
}

#[tokio::test]
async fn s11_a_root_that_is_unmounted_in_mid_sweep_loses_nothing() -> Result<()> {
    let scene = Scene::with(|_| ()).await?;
    let (root, aside) = (base(&scene).join("uploads"), base(&scene).with_extension("aside"));
    let (from, to) = (root.clone(), aside.clone());
    let report = activate(&scene, |collector| {
        interpose(collector, "uploads", move |call, nth| {
            if (call, nth) == (Call::Delete, 1) {
                fs::rename(&from, &to).and_then(|()| fs::create_dir(&from)).expect("it was there");
            }
            Box::pin(std::future::ready(()))
        });
    })
    .await?;
    fs::remove_dir_all(&root)?;
    fs::rename(&aside, &root)?;
    assert_eq!(entry(&report, "uploads").swept().deleted, 0, "{report:?}");
    ensure!(!went(&scene.difference().await?).contains_key("uploads"));
    waited(&scene).await?;
    scene.recovers().await?;
    documented(
        "unmounted when the first directory is about to go",
        &format!("{}: nothing of it went, the others did; its clocks start anew", report.verdict.as_str()),
        "s11_a_root_that_is_unmounted_in_mid_sweep_loses_nothing",
    )
}

#[tokio::test]
async fn s7_a_read_only_root_is_held() -> Result<()> {
    let scene = Scene::with(|_| ()).await?;
    let root = base(&scene).join("uploads");
    let mounts = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\"";
    let Some((code, report)) = run_behind(&scene, mounts, [&root, &root]).await? else { return Ok(()) };
    let reason = said(&report, "uploads")?["not_adopted"].as_str().unwrap_or_default();
    ensure!(code == 3 && reason.contains("its marker could not be moved on"), "{report:#}");
    ensure!(reason.contains("Read-only file system"), "{reason}");
    ensure!(!went(&scene.difference().await?).contains_key("uploads"));
    scene.recovers().await?;
    documented(
        "mounted read-only",
        "held: its marker could not be moved on; nothing of it went, the others did",
        "s7_a_read_only_root_is_held",
    )
}

#[tokio::test]
async fn s13_a_bind_mount_deep_inside_holds_its_course_only() -> Result<()> {
    let mut scene = Scene::with(|_| ()).await?;
    let outside = TempDir::new()?;
    fs::write(outside.path().join("kept"), "somebody else's")?;
    let course = dead(&scene)?;
    let mounted = course.join("a/b/mounted");
    fs::create_dir_all(&mounted)?;
    grown(&mut scene, &course).await?;
    let run = run_behind(&scene, "mount --bind \"$1\" \"$2\"", [outside.path(), &mounted]).await?;
    let Some((code, report)) = run else { return Ok(()) };
    ensure!(code == 0 && report["verdict"] == "done", "{report:#}");
    let left = scene.doomed.difference(&scene.difference().await?.gone).cloned().collect::<Vec<_>>();
    let below = course.strip_prefix(base(&scene))?.display().to_string();
    ensure!(!left.is_empty(), "the mount does not hold it");
    ensure!(left.iter().all(|it| matches!(it, Resource::File(path) if path.starts_with(&below))), "{left:?}");
    assert_eq!(fs::read(outside.path().join("kept"))?, b"somebody else's");
    // Nothing is mounted there for whoever looks now.
    waited(&scene).await?;
    scene.recovers().await?;
    documented(
        "a bind mount deep inside a dead course's directory",
        "done: the directory is held whole, what is mounted there is not entered; all else went",
        "s13_a_bind_mount_deep_inside_holds_its_course_only",
    )
}

#[tokio::test]
async fn s13_links_out_of_the_root_lead_nowhere() -> Result<()> {
    let mut scene = Scene::with(|_| ()).await?;
    let outside = TempDir::new()?;
    let course = dead(&scene)?;
    let name = course.file_name().context("the course's name")?;
    // What a link to a dead course's directory, or to an organization's, leads to.
    let far = outside.path().join("organization").join(name);
    fs::create_dir_all(&far)?;
    fs::write(far.join("kept"), "somebody else's")?;
    symlink(&far, course.join("link"))?;
    symlink(far.join("kept"), course.join("link.pdf"))?;
    symlink(outside.path().join("organization"), base(&scene).join("uploads/00000000-0000-4000-8000-000000000001"))?;
    symlink(&far, base(&scene).join("enrichments").join("00000000-0000-4000-8000-000000000002"))?;
    grown(&mut scene, &course).await?;
    scene.recovers().await?;
    assert_eq!(fs::read(far.join("kept"))?, b"somebody else's");
    ensure!(!course.exists(), "the links in it go with it");
    documented(
        "links out of it: as an organization, as a course, in a dead course's directory",
        "done: none is followed; those in the dead course's directory go with it, the others stay",
        "s13_links_out_of_the_root_lead_nowhere",
    )
}

#[tokio::test]
async fn s5_names_of_any_bytes_go_with_their_course_and_hold_nothing_else() -> Result<()> {
    let mut scene = Scene::with(|_| ()).await?;
    let course = dead(&scene)?;
    let id = course.file_name().context("the course's name")?.to_owned();
    let uploads = base(&scene).join("uploads");
    let odd: [&[u8]; 5] = [b"a\nb", b"\xff\xfe\xfd", b" ", b"\x1b[2J", b"-rf"];
    for name in odd.map(OsStr::from_bytes) {
        fs::create_dir(course.join(name))?;
        fs::write(course.join(name).join(name), "its course's")?;
        // Where an organization's directory lies, and where a course's does.
        fs::create_dir_all(uploads.join(name).join(name))?;
        fs::write(uploads.join(name).join(name).join("kept"), "nobody's")?;
    }
    // An id with something more is another name.
    let more =
        uploads.join("00000000-0000-4000-8000-000000000001").join([id.as_bytes(), b"\n"].concat().as_slice().os());
    fs::create_dir_all(&more)?;
    fs::write(more.join("kept"), "nobody's")?;
    grown(&mut scene, &course).await?;
    scene.recovers().await?;
    ensure!(more.join("kept").exists() && !course.exists());
    let kept = odd.iter().filter(|name| uploads.join(name.os()).join(name.os()).join("kept").exists()).count();
    assert_eq!(kept, odd.len());
    documented(
        "names with line ends, control characters and bytes that are no text",
        "done: in a dead course's directory they go with it, in a course's place they are unrecognised and stay",
        "s5_names_of_any_bytes_go_with_their_course_and_hold_nothing_else",
    )
}

/// Bytes as a file name.
trait Os {
    fn os(&self) -> &OsStr;
}

impl Os for [u8] {
    fn os(&self) -> &OsStr {
        OsStr::from_bytes(self)
    }
}

#[tokio::test]
async fn s4_files_that_come_and_go_under_the_walk_disturb_nothing() -> Result<()> {
    let scene = Scene::with(|_| ()).await?;
    let root = base(&scene).join("uploads");
    // A live organization's directory, in which uploads come and go.
    let live = scene.before.resources().find_map(|resource| match resource {
        Resource::File(path) if path.starts_with("uploads/") && !scene.doomed.contains(resource) => Some(path.clone()),
        _ => None,
    });
    let live = base(&scene).join(live.context("a live course's file")?).parent().context("its directory")?.to_owned();
    let organization = live.parent().context("its organization")?.to_owned();
    let over = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&over);
    let churn = std::thread::spawn(move || -> std::io::Result<u64> {
        let mut rounds = 0;
        while !ended.load(Ordering::SeqCst) {
            let number = rounds % 50;
            let (file, folder) =
                (live.join(format!("upload-{number}.tmp")), organization.join(format!("tmp-{number}")));
            let elsewhere = root.join(format!("tmp-{number}"));
            fs::write(&file, "half of it")?;
            fs::create_dir_all(folder.join("deeper"))?;
            fs::rename(&folder, &elsewhere)?;
            fs::remove_dir_all(&elsewhere)?;
            fs::rename(&file, live.join("upload.tmp"))?;
            fs::remove_file(live.join("upload.tmp"))?;
            rounds += 1;
        }
        Ok(rounds)
    });
    let report = activate(&scene, |_| ()).await;
    over.store(true, Ordering::SeqCst);
    let rounds = churn.join().map_err(|_| anyhow::anyhow!("the churn panicked"))??;
    ensure!(rounds > 10, "only {rounds} rounds");
    let report = report?;
    assert_eq!(report.verdict, Verdict::Done, "{report:?}");
    scene.is_finished().await?;
    documented(
        "files and directories that come and go under the walk",
        "done: no less and no more than without them",
        "s4_files_that_come_and_go_under_the_walk_disturb_nothing",
    )
}
