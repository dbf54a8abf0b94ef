//! S9: what something alive refers to stays.

use futures::stream;

use super::*;

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
    bed.store.referenced(&courses, references).await.unwrap().into_iter().collect()
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
