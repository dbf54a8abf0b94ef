//! S9: what something alive refers to stays.

use futures::stream;

use super::*;
use crate::stores::copies::{InPlace, Receipt, Restoring, Safe};

fn bed() -> Bed {
    let references = ReferenceSettings {
        query: "SELECT storage_path FROM public.file_catalog".into(),
        strip_prefix: Some("uploads/".into()),
        absolute_roots: vec!["/app/uploads".into()],
    };
    let bed = Bed::with(BY_ORGANIZATION, Some(references));
    bed.write(format!("org/{A}/deep/a.pdf"), "x");
    bed.write(format!("org/{B}/b.pdf"), "x");
    bed.write(format!(".course-gc/trash/{C}.1/c.pdf"), "x");
    bed
}

async fn held(bed: &Bed, references: &[&[u8]]) -> Vec<CourseId> {
    let references = stream::iter(references.iter().map(|path| Ok(path.to_vec()))).boxed();
    let courses = [A, B, C].map(id).into();
    bed.store.referenced(&courses, references).await.unwrap().courses.into_keys().collect()
}

async fn referenced(bed: &Bed, references: &[&[u8]]) -> Referenced {
    let references = stream::iter(references.iter().map(|path| Ok(path.to_vec()))).boxed();
    bed.store.referenced(&[A, B, C].map(id).into(), references).await.unwrap()
}

/// Every file and link below a directory, by its path there.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let all = snapshot(directory).into_iter().filter(|(path, _)| !path.is_dir() || path.is_symlink());
    all.map(|(path, content)| (path.strip_prefix(directory).unwrap().to_owned(), content)).collect()
}

#[tokio::test]
async fn s9_a_referenced_file_stays_and_the_rest_goes_and_comes_back() {
    for is_quarantined in [true, false] {
        let bed = bed();
        for path in ["deep/other.pdf", "deep/down/x", "deep/down/kept/y", "deep/down/kept/z", "top", "else/w"] {
            bed.write(format!("org/{A}/{path}"), path);
        }
        let home = bed.root().join("org").join(A);
        fs::create_dir(home.join("empty")).unwrap();
        let before = files(&home);
        let path = format!("uploads/org/{A}/deep/down/kept");
        let referenced = referenced(&bed, &[path.as_bytes(), b"/elsewhere/a.pdf"]).await;
        let Some(Referred::Partly(amount)) = referenced.courses.get(&id(A)) else { panic!("{referenced:?}") };
        assert_eq!((referenced.courses.len(), amount.resources), (1, 3));

        let handles = bed.locate(&[A]).await;
        let copy = kept::copy_id(1);
        let safe = is_quarantined.then(|| Safe { id: copy, receipts: vec![Receipt::default()] });
        let batch = Condemned::for_test_except(handles, safe, referenced, Duration::from_secs(3600));
        let outcomes = bed.store.delete(&batch).await.outcomes;
        assert!(matches!(outcomes[..], [Outcome::Partly { resources: 4, left: 3, .. }]), "{outcomes:?}");
        let stays = ["deep/a.pdf", "deep/down/kept/y", "deep/down/kept/z"].map(PathBuf::from);
        assert_eq!(files(&home).into_keys().collect::<Vec<_>>(), stays);
        assert!(!home.join("empty").exists() && !home.join("else").exists());

        let copies = InPlace::copies(&bed.store).await.unwrap();
        assert_eq!(copies.len(), usize::from(is_quarantined));
        for copy in copies {
            assert_eq!((copy.resources, &copy.name[..]), (4, format!("org/{A}").as_bytes()));
            assert_eq!(InPlace::put_back(&bed.store, &copy, Restoring::Look).await, PutBack::Restored);
            assert_eq!(InPlace::put_back(&bed.store, &copy, Restoring::Missing).await, PutBack::Restored);
            assert_eq!(files(&home), before);
            assert!(home.join("empty").exists());
        }
        assert_eq!(InPlace::copies(&bed.store).await.unwrap(), vec![]);
    }
}

#[tokio::test]
async fn s9_what_is_referred_to_and_has_another_name_when_it_is_to_go_holds_all() {
    let bed = bed();
    bed.write(format!("org/{A}/deep/rest"), "x");
    let referenced = referenced(&bed, &[format!("uploads/org/{A}/deep/a.pdf").as_bytes()]).await;
    let home = bed.root().join("org").join(A);
    fs::rename(home.join("deep/a.pdf"), home.join("deep/b.pdf")).unwrap();
    let before = files(&home);
    let batch = Condemned::for_test_except(bed.locate(&[A]).await, None, referenced, Duration::from_secs(3600));
    let outcomes = bed.store.delete(&batch).await.outcomes;
    assert!(matches!(outcomes[..], [Outcome::Partly { resources: 0, left: 2, .. }]), "{outcomes:?}");
    assert_eq!(files(&home), before);
}

#[tokio::test]
async fn s9_where_nobody_can_tell_what_is_meant_all_of_the_course_stays() {
    let bed = bed();
    let home = bed.root().join("org").join(A);
    for path in ["deep/rest", "target", "full/x"] {
        bed.write(format!("org/{A}/{path}"), "x");
    }
    fs::create_dir(home.join("empty")).unwrap();
    std::os::unix::fs::symlink("target", home.join("link")).unwrap();
    std::os::unix::fs::symlink("deep", home.join("way")).unwrap();
    for (path, why) in [
        ("", "the directory itself"),
        ("/link", "what a link leads to is needed too"),
        ("/way/a.pdf", "it leads through a link"),
        ("/deep/A.PDF", "written otherwise"),
        ("/empty", "it counts as nothing"),
    ] {
        let referenced = referenced(&bed, &[format!("uploads/org/{A}{path}").as_bytes()]).await;
        assert_eq!(referenced.courses.get(&id(A)), Some(&Referred::Wholly), "{path}: {why}");
    }
    let partly = referenced(&bed, &[format!("uploads/org/{A}/full").as_bytes()]).await;
    assert!(matches!(partly.courses.get(&id(A)), Some(Referred::Partly(_))), "{partly:?}");
    let all = referenced(&bed, &[format!("uploads/org/{B}/b.pdf").as_bytes()]).await;
    assert_eq!(all.courses.get(&id(B)), Some(&Referred::Wholly), "there is nothing else");
}

#[tokio::test]
async fn s9_a_reference_holds_its_course() {
    let bed = bed();
    assert_eq!(bed.store.reference_query(), Some("SELECT storage_path FROM public.file_catalog"));
    assert_eq!(held(&bed, &[]).await, vec![]);
    let own = bed.root().join(format!("org/{A}/deep/a.pdf")).into_os_string();
    for path in [
        format!("uploads/org/{A}/deep/a.pdf").as_bytes(),
        format!("/app/uploads/org/{A}/x").as_bytes(),
        own.as_bytes(),
        b"/other/place/a.pdf",
        b"a.pdf",
        b"uploads/../a.pdf",
        b"https://campus/files/a.pdf",
        b"/old/deep/",
        format!("uploads/org/career-playbooks/{A}.pdf").as_bytes(),
        format!("uploads/org/{}/a", A.to_uppercase()).as_bytes(),
    ] {
        assert_eq!(held(&bed, &[path]).await, vec![id(A)], "{}", path.escape_ascii());
    }
    assert_eq!(held(&bed, &[b"c.pdf"]).await, vec![id(C)], "what is in the trash is still there");
    assert_eq!(held(&bed, &[b"b.pdf", b"/x/c.pdf", b"nothing", b"a.pdf"]).await, [A, B, C].map(id));
}

#[tokio::test]
async fn s9_other_references_hold_nothing() {
    let bed = bed();
    let other = "11111111-2222-4333-8444-555555555555";
    for path in [
        b"uploads/org/career-playbooks/p/a.pdf".as_slice(),
        format!("uploads/org/{other}/a.pdf").as_bytes(),
        b"/other/place/A.PDF",
        b"",
        b"/",
        b"..",
    ] {
        assert_eq!(held(&bed, &[path]).await, vec![], "{}", path.escape_ascii());
    }
}

#[tokio::test]
async fn s9_a_name_of_any_bytes_holds() {
    let bed = bed();
    bed.write(Path::new("org").join(B).join(name(b"\xff\n.pdf")), "x");
    assert_eq!(held(&bed, &[b"/gone/\xff\n.pdf"]).await, vec![id(B)]);
}

#[tokio::test]
async fn s9_a_reference_that_cannot_be_read_holds_the_store() {
    let bed = bed();
    let broken = || Err(StoreError::Unusable("the query failed".into()));
    let references = stream::iter([Ok(b"uploads/x".to_vec()), broken()]).boxed();
    assert!(bed.store.referenced(&[id(A)].into(), references).await.is_err());
    fs::remove_dir_all(bed.root()).unwrap();
    let references = stream::iter([Ok(b"/elsewhere/a.pdf".to_vec())]).boxed();
    assert!(bed.store.referenced(&[id(A)].into(), references).await.is_err(), "nor can the names be looked for");
}
