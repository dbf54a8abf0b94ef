//! Layouts of one level and of several, through all that a store does.

use futures::stream;

use super::kept::{copies, copy_id, sweep};
use super::*;
use crate::domain::inventory::Amount;
use crate::stores::copies::{PutBack, Receipt, Restoring, Safe};

/// Layouts, a place that each of them leads to, and what is beside it and leads nowhere.
const LAYOUTS: [(&str, &str, &[&str]); 5] = [
    ("{course_id}", "", &[]),
    ("a/b/{course_id}", "a/b/", &["a/c", "b", "a/file"]),
    ("{organization_id}/courses/{course_id}", "acme/courses/", &["acme/other", "courses"]),
    ("uploads/{organization_id}/{course_id}", "uploads/acme/", &["downloads/acme", "acme"]),
    ("*/{organization_id}/x/*/{course_id}", "eu/acme/x/2026/", &["eu/acme/y/2026", "eu/acme/x", "x"]),
];

#[tokio::test]
async fn s5_a_course_is_found_at_its_layouts_depth_and_nowhere_else() {
    for (layout, above, beside) in LAYOUTS {
        let bed = Bed::new(layout);
        bed.write(format!("{above}{A}/deep/a"), "a");
        bed.write(format!("{above}{A}/{B}/b"), "b");
        bed.write(format!("{above}{B}/b"), "b");
        bed.write(format!("{above}not-a-course/x"), "x");
        for place in beside {
            bed.write(format!("{place}/{C}/c"), "c");
        }
        let inventory = bed.inventory(&[B]).await;
        let source = &inventory.sources[0];
        let entangled = source.dead.get(&id(A)).map(|found| (found.amount.resources, found.entangled));
        assert_eq!(entangled, Some((0, 2)), "{layout}");
        assert_eq!((source.dead.len(), source.unrecognised.count), (1, 1), "{layout}");
        let found = bed.found(A).await;
        assert_eq!(found.amount.resources, 2, "{layout}");
        assert!(bed.locate(&[C]).await.is_empty(), "{layout}: {C} is nowhere where courses are");
        let located: Vec<_> = bed.locate(&[A]).await.into_iter().map(|handle| handle.key).collect();
        assert_eq!(located, [Bytes::from(format!("{above}{A}"))], "{layout}");
    }
}

#[tokio::test]
async fn s12_a_course_goes_from_any_depth_and_comes_back() {
    for (layout, above, beside) in LAYOUTS {
        let bed = Bed::new(layout);
        bed.write(format!("{above}{B}/stays"), "b");
        for place in beside {
            bed.write(format!("{place}/{A}/stays"), "c");
        }
        bed.write(format!("{above}{A}/deep/a"), "a");
        let own = bed.root().join(".course-gc");
        let files = || {
            let all = bed.snapshot().into_iter();
            all.filter(|(path, content)| content != b"directory" && !path.starts_with(&own)).collect::<BTreeMap<_, _>>()
        };
        let before = files();
        let outcomes = sweep(&bed, A, 1).await;
        assert!(matches!(outcomes[..], [Outcome::Deleted { resources: 1, .. }]), "{layout}: {outcomes:?}");
        let gone = bed.root().join(format!("{above}{A}"));
        assert!(!gone.exists());
        assert_eq!(files().len() + 1, before.len(), "{layout}");
        assert_eq!((bed.remaining(A).await, bed.remaining(B).await), (0, 1), "{layout}");
        let kept = copies(&bed).await;
        assert_eq!(kept[0].name, format!("{above}{A}"));
        assert_eq!(InPlace::put_back(&bed.store, &kept[0], Restoring::Missing).await, PutBack::Restored, "{layout}");
        assert_eq!(files(), before, "{layout}");
    }
}

#[tokio::test]
async fn s9_a_reference_is_found_at_any_depth() {
    for (layout, above, beside) in LAYOUTS {
        let references = ReferenceSettings {
            query: String::new(),
            strip_prefix: Some("files/".into()),
            absolute_roots: vec!["/srv/files".into()],
        };
        let bed = Bed::with(layout, Some(references));
        for course in [A, B, C] {
            bed.write(format!("{above}{course}/deep/kept"), "kept");
            bed.write(format!("{above}{course}/goes"), "goes");
        }
        let mut paths = vec![format!("files/{above}{A}/deep/kept"), format!("/srv/files/{above}{B}")];
        // It leads elsewhere, but names a course: nobody knows better.
        paths.extend(beside.iter().map(|place| format!("files/{place}/{C}/deep/kept")));
        let paths = stream::iter(paths.into_iter().map(|path| Ok(path.into_bytes()))).boxed();
        let referenced = bed.store.referenced(&[A, B, C].map(id).into(), paths).await.unwrap();
        assert!(
            matches!(referenced.courses.get(&id(A)), Some(Referred::Partly(Amount { resources: 1, .. }))),
            "{layout}"
        );
        assert_eq!((referenced.holds(id(B)), referenced.holds(id(C))), (true, !beside.is_empty()), "{layout}");

        let handles = bed.locate(&[A]).await;
        let safe = Safe { id: copy_id(1), receipts: vec![Receipt::default()] };
        let batch = Condemned::for_test_except(handles, Some(safe), referenced, Duration::from_secs(3600));
        let outcomes = bed.store.delete(&batch).await.outcomes;
        assert!(matches!(outcomes[..], [Outcome::Partly { resources: 1, left: 1, .. }]), "{layout}: {outcomes:?}");
        let home = bed.root().join(format!("{above}{A}"));
        assert!(home.join("deep/kept").exists() && !home.join("goes").exists(), "{layout}");
    }
}
