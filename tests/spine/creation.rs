//! Created while it runs: runs follow one another without pause, and no new course loses anything.

use std::collections::BTreeSet;

use anyhow::Result;
use course_gc::domain::evidence::Evidence;
use course_gc::domain::plan::{Decision, Hold};
use course_gc::domain::report::{RunReport, Verdict};
use sandbox::campus::{Campus, CampusSize, CourseId, Fate};
use sandbox::config::Settings;
use sandbox::{Snapshot, World};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::support::Installation;

/// Courses that are there from the start and stay.
const OLD: usize = 100;
/// Courses that are created while runs go on.
const NEW: usize = 500;
/// Courses that are there from the start and are deleted meanwhile.
const DOOMED: usize = 40;

/// A campus that grows and shrinks while it is looked at.
struct Scene {
    _world: World,
    installation: Installation,
    /// All courses, without the traps.
    campus: Campus,
    new: Vec<CourseId>,
    doomed: Vec<CourseId>,
    finished: watch::Sender<usize>,
    stop: CancellationToken,
}

impl Scene {
    async fn set(departed: &str, stranger: &str) -> Result<Self> {
        let world = World::create().await?;
        let settings = Settings {
            departed: departed.to_owned(),
            stranger: stranger.to_owned(),
            exclusive: true,
            // A hundred new courses among two hundred are no accident here.
            limits: vec!["breaker_share: 50%".to_owned(), "breaker_share_strangers: 50%".to_owned()],
            ..Settings::default()
        };
        let installation = Installation::new(world.addresses(), &settings).await?;
        let size = CampusSize { courses: OLD + NEW + DOOMED, doomed: DOOMED, points: 2, ..CampusSize::default() };
        let whole = Campus::plan(size);
        let campus = whole.some(&whole.courses.iter().map(|course| course.id).collect());
        let doomed = campus.doomed();
        let staying: Vec<CourseId> = campus.courses.iter().map(|it| it.id).filter(|id| !doomed.contains(id)).collect();
        let (old, new) = staying.split_at(OLD);
        campus.some(&old.iter().chain(&doomed).copied().collect()).seed(&installation.stores).await?;
        assert_eq!(installation.run().await?.verdict, Verdict::Clean);
        Ok(Self {
            _world: world,
            installation,
            new: new.to_vec(),
            doomed: doomed.into_iter().collect(),
            campus,
            finished: watch::Sender::new(0),
            stop: CancellationToken::new(),
        })
    }

    /// Runs until it is stopped, and once more.
    async fn runs_without_pause(&self) -> Result<Vec<RunReport>> {
        let mut reports = Vec::new();
        loop {
            let is_last = self.stop.is_cancelled();
            let report = self.installation.run().await?;
            let wrong: Vec<_> =
                report.stores.iter().map(|it| (&it.error, &it.failures, &it.live_after_delete)).collect();
            assert!(matches!(report.verdict, Verdict::Clean | Verdict::Done), "{:?} {wrong:?}", report.verdict);
            reports.push(report);
            self.finished.send_replace(reports.len());
            if is_last {
                return Ok(reports);
            }
        }
    }

    /// Waits until a run has finished that began after this was called.
    async fn a_whole_run(&self) -> Result<()> {
        let under_way = *self.finished.borrow() + 1;
        self.finished.subscribe().wait_for(|finished| *finished > under_way).await?;
        Ok(())
    }

    async fn delete(&self, courses: &[CourseId]) -> Result<()> {
        for course in courses {
            self.campus.delete_row(&self.installation.stores, *course).await?;
        }
        Ok(())
    }

    /// What the dead left has gone, and nothing else.
    async fn is_whole(&self) -> Result<()> {
        let after = Snapshot::take(&self.installation.stores).await?;
        let deleted: BTreeSet<CourseId> = self.doomed.iter().copied().collect();
        let fates = self.campus.fates(&deleted);
        assert!(fates.values().filter(|fate| **fate == Fate::Gone).count() > 10 * DOOMED, "most of it goes");
        for (resource, fate) in &fates {
            assert_eq!(after.contains(resource), *fate != Fate::Gone, "{resource:?}: {fate:?}");
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_created_row_first_without_any_grace() -> Result<()> {
    let scene = Scene::set("0s", "0s").await?;
    let create = async {
        let dying = scene.doomed.chunks(1).chain(std::iter::repeat(&[][..]));
        for (n, (courses, dead)) in scene.new.chunks(NEW / DOOMED).zip(dying).enumerate() {
            scene.delete(dead).await?;
            // However slow a run is: some begin and end in between.
            if n % (DOOMED / 4) == DOOMED / 8 {
                scene.a_whole_run().await?;
            }
            for course in courses {
                let course = scene.campus.only(*course);
                course.seed_rows(&scene.installation.stores).await?;
                course.seed_resources(&scene.installation.stores).await?;
            }
        }
        scene.stop.cancel();
        Ok(())
    };
    let (reports, ()) = tokio::try_join!(scene.runs_without_pause(), create)?;
    assert!(reports.len() > 3, "only {} runs while courses were created", reports.len());
    scene.is_whole().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s6_created_resources_first_with_a_grace_longer_than_the_gap() -> Result<()> {
    let scene = Scene::set("0s", "1h").await?;
    let create = async {
        for (courses, dead) in scene.new.chunks(100).zip(scene.doomed.chunks(8)) {
            scene.delete(dead).await?;
            let courses = scene.campus.some(&courses.iter().copied().collect());
            courses.seed_resources(&scene.installation.stores).await?;
            scene.a_whole_run().await?;
            courses.seed_rows(&scene.installation.stores).await?;
        }
        scene.stop.cancel();
        Ok(())
    };
    let (reports, ()) = tokio::try_join!(scene.runs_without_pause(), create)?;
    let orphans = reports.iter().flat_map(|it| &it.stores).flat_map(|it| &it.sources).flat_map(|it| &it.orphans);
    let waiting = orphans
        .filter(|it| it.evidence == Evidence::Stranger && matches!(it.decision, Decision::Held(Hold::Grace { .. })));
    let waiting: BTreeSet<String> = waiting.map(|orphan| orphan.course.to_string()).collect();
    assert_eq!(waiting, scene.new.iter().map(ToString::to_string).collect(), "each was seen without its row");
    scene.is_whole().await
}
