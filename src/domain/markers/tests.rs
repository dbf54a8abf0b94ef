//! Who may join whom, who may sweep beside whom, and how owners come from one common set of sources to another.

use super::*;

const US: u128 = 1;

fn named(sources: &[&str]) -> Truths {
    sources.iter().map(|source| ((*source).to_owned(), format!("the server of {source}"))).collect()
}

fn owner(installation: u128, counter: u64, sources: &[&str]) -> Owner {
    let name = format!("installation {installation}");
    Owner { installation: Uuid::from_u128(installation), name, counter, truths: named(sources) }
}

fn marker(owners: &[Owner]) -> Marker {
    owners.iter().fold(Marker::default(), |marker, owner| marker.with(owner.clone()))
}

fn declared() -> Vec<(String, bool)> {
    vec![("s".to_owned(), false)]
}

/// The judgement of our store at count 5, whose marker and truths are these.
fn judged(marker: Option<&Marker>, asked: &[&str]) -> Result<Result<(), NotAdopted>, LedgerBehind> {
    let adopted = AdoptedStore { sources: declared(), counter: 5, ..AdoptedStore::default() };
    let (sources, truths) = (declared(), named(asked));
    let installation = Uuid::from_u128(US);
    let known = Known { store: "x", adopted: Some(&adopted), sources: &sources, installation, truths: &truths };
    judge_marker(&known, marker)
}

fn pin(system: Option<&str>, database: &str) -> SourcePin {
    SourcePin {
        system: system.map(Into::into),
        database: database.into(),
        id_type: "uuid".into(),
        query: "abc".into(),
        relations: Vec::new(),
    }
}

#[test]
fn s7_a_source_is_named_by_its_system_and_database_or_nothing_is() {
    let (a, b, withheld) = (pin(Some("7"), "b"), pin(Some("7"), "a"), pin(None, "c"));
    let all = truths([(&a, Some("7 1")), (&b, Some("7 1"))]);
    assert_eq!(all.keys().collect::<Vec<_>>(), ["7/a", "7/b"]);
    assert!(truths([(&a, Some("7 1")), (&withheld, None)]).is_empty(), "a part would look like all");
    assert!(truths([(&a, None)]).is_empty());
}

#[test]
fn s7_a_marker_is_right_at_the_last_count_or_at_an_interrupted_move() {
    let judge = |counter, pending, seen| {
        let adopted = AdoptedStore { sources: declared(), counter, pending, ..AdoptedStore::default() };
        let (sources, truths) = (declared(), named(&["a"]));
        let installation = Uuid::from_u128(US);
        let known = Known { store: "x", adopted: Some(&adopted), sources: &sources, installation, truths: &truths };
        judge_marker(&known, Some(&marker(&[owner(US, seen, &["a"]), owner(2, 99, &["a"])])))
    };
    assert_eq!(judge(5, None, 5), Ok(Ok(())), "another's count says nothing of our ledger");
    assert_eq!(judge(5, Some(6), 5), Ok(Ok(())), "the move did not come to the store");
    assert_eq!(judge(5, Some(6), 6), Ok(Ok(())), "the move came to the store only");
    assert_eq!(judge(5, None, 6), Err(LedgerBehind { store: "x".into(), ahead: 1 }));
    assert_eq!(judge(5, Some(6), 9), Err(LedgerBehind { store: "x".into(), ahead: 3 }));
    assert_eq!(judge(5, None, 4), Ok(Err(NotAdopted::Behind)));
}

#[test]
fn s7_what_is_not_adopted_holds_itself() {
    let ours = marker(&[owner(US, 5, &["a"])]);
    let (sources, truths) = (declared(), named(&["a"]));
    let installation = Uuid::from_u128(US);
    let never = Known { store: "x", adopted: None, sources: &sources, installation, truths: &truths };
    assert_eq!(judge_marker(&never, Some(&ours)), Ok(Err(NotAdopted::Never)));
    let adopted = AdoptedStore { sources: vec![("s".to_owned(), true)], counter: 5, ..AdoptedStore::default() };
    let edited = Known { adopted: Some(&adopted), ..never };
    assert_eq!(judge_marker(&edited, Some(&ours)), Ok(Err(NotAdopted::Edited)));
    assert_eq!(judged(None, &["a"]), Ok(Err(NotAdopted::Unmarked)));
    assert_eq!(judged(Some(&Marker::default()), &["a"]), Ok(Err(NotAdopted::Unmarked)));
    assert_eq!(judged(Some(&ours), &["b"]), Ok(Err(NotAdopted::Outdated)), "others rely on what our entry says");

    let foreign = judged(Some(&marker(&[owner(2, 99, &["a"])])), &["a"]).unwrap().unwrap_err();
    assert!(matches!(foreign, NotAdopted::Foreign(_)), "{foreign}");
    assert!(foreign.to_string().contains("\"installation 2\""), "{foreign}");
}

/// By what we ask and another owner asks: may we join it, may we sweep beside it.
#[test]
fn s7_who_joins_asks_the_same_and_who_sweeps_asks_as_much() {
    for (ours, theirs, joins, sweeps) in [
        (&["a"][..], &["a"][..], true, true),
        (&["a", "b"], &["a", "b"], true, true),
        (&["a"], &["b"], false, false),
        (&["a"], &["a", "b"], false, false),
        (&["a", "b"], &["a"], false, true),
        (&["a", "b"], &["b", "c"], false, false),
        (&[], &["a"], false, false),
        (&["a"], &[], false, false),
        (&[], &[], false, false),
    ] {
        let us = owner(US, 5, ours);
        let others = marker(&[owner(2, 8, theirs), owner(3, 1, ours)]);
        let joined = adopt(Some(&others), &us);
        assert_eq!(joined.is_ok(), joins, "{ours:?} joins {theirs:?}: {joined:?}");
        if joins {
            assert_eq!(joined, Ok(Step::Join(others.with(us.clone()))));
        }
        let judged = judged(Some(&others.with(us.clone())), ours).expect("no halt");
        assert_eq!(judged.is_ok(), sweeps, "{ours:?} sweeps beside {theirs:?}: {judged:?}");
        assert_eq!(beside_others(Some(&others.with(us.clone())), &us).is_ok(), sweeps);
        assert!(sweeps || matches!(judged, Err(NotAdopted::Shared(_))), "{judged:?}");
    }
}

#[test]
fn s7_who_cannot_tell_what_it_asks_has_its_stores_for_itself() {
    let us = owner(US, 5, &[]);
    assert_eq!(adopt(None, &us), Ok(Step::Join(marker(std::slice::from_ref(&us)))));
    assert_eq!(judged(Some(&marker(&[us])), &[]), Ok(Ok(())));
}

/// So whoever is allowed to sweep locks the same databases as whoever else is.
#[test]
fn s7_all_that_may_sweep_ask_the_same() {
    let sets: [&[&str]; 8] = [&[], &["a"], &["b"], &["c"], &["a", "b"], &["a", "c"], &["b", "c"], &["a", "b", "c"]];
    for ours in sets {
        for theirs in sets {
            let (us, them) = (owner(1, 5, ours), owner(2, 5, theirs));
            if us.may_sweep_beside(&them).is_ok() && them.may_sweep_beside(&us).is_ok() {
                assert_eq!(ours, theirs);
                assert!(!ours.is_empty());
            }
        }
    }
}

#[test]
fn s7_a_refusal_says_who_and_which_sources_and_what_to_do() {
    let us = owner(US, 5, &["a", "b"]);
    let refusal = |them: Owner| adopt(Some(&marker(&[them])), &us).unwrap_err().to_string();
    let differs = refusal(owner(2, 8, &["b", "c"]));
    for said in ["\"installation 2\"", "we do not name c", "it does not name a", "`liveness` on both sides", "is gone"]
    {
        assert!(differs.contains(said), "{differs}");
    }
    assert!(!refusal(owner(2, 8, &["a"])).contains("we do not name"));
    let withheld = refusal(owner(2, 8, &[]));
    assert!(
        withheld.contains("its liveness sources withholds") && withheld.contains("pg_control_system"),
        "{withheld}"
    );
    let ours = adopt(Some(&marker(std::slice::from_ref(&us))), &owner(2, 8, &[])).unwrap_err().to_string();
    assert!(ours.contains("our liveness sources withholds"), "{ours}");
}

/// A copy of a database has its identifier, but is another server: its installation must not join ours.
#[test]
fn s7_a_copy_of_the_truth_does_not_join() {
    let (us, mut copy) = (owner(US, 5, &["a", "b"]), owner(2, 0, &["a", "b"]));
    copy.truths.insert("b".into(), "the copy's server".into());
    let refused = adopt(Some(&marker(std::slice::from_ref(&us))), &copy).unwrap_err();
    assert!(matches!(&refused, Unshared::Elsewhere { sources, .. } if *sources == ["b"]), "{refused}");
    // Once both are there, a server that was started anew stops nobody.
    assert_eq!(copy.may_sweep_beside(&us), Ok(()));
}

#[test]
fn s7_adopting_again_brings_our_entry_up_to_date_and_leaves_the_others_alone() {
    let (us, them) = (owner(US, 5, &["a"]), owner(2, 8, &["a"]));
    let there = marker(&[us.clone(), them.clone()]);
    assert_eq!(adopt(None, &us), Ok(Step::Join(marker(std::slice::from_ref(&us)))));
    assert_eq!(adopt(Some(&there), &Owner { counter: 0, ..us.clone() }), Ok(Step::Keep(5)), "the store's count counts");
    let grown = owner(US, 0, &["a", "b"]);
    let next = Owner { counter: 6, ..grown.clone() };
    assert_eq!(adopt(Some(&there), &grown), Ok(Step::Update(5, marker(&[next, them]))));
    let renamed = Owner { name: "another".into(), ..us };
    assert!(matches!(adopt(Some(&there), &renamed), Ok(Step::Update(5, _))));
}

/// Adopts as `us`, and tells the marker then, and whether `us` may sweep.
fn adopted(there: &Marker, us: &Owner) -> (Marker, bool) {
    let there = match adopt(Some(there), us) {
        Ok(Step::Join(to) | Step::Update(_, to)) => to,
        Ok(Step::Keep(_)) | Err(_) => there.clone(),
    };
    let may_sweep = there.owner(us.installation).is_some() && beside_others(Some(&there), us).is_ok();
    (there, may_sweep)
}

#[test]
fn s7_owners_come_from_one_common_set_to_another_one_at_a_time() {
    let (one, other) = (|sources| owner(1, 0, sources), |sources| owner(2, 0, sources));
    let alone = marker(&[one(&["a"])]);
    // The other joins: not before the first names its source too.
    assert_eq!(adopted(&alone, &other(&["b"])), (alone.clone(), false));
    assert_eq!(adopted(&alone, &other(&["a", "b"])), (alone.clone(), false));
    let (there, one_sweeps) = adopted(&alone, &one(&["a", "b"]));
    assert!(one_sweeps);
    let (there, other_sweeps) = adopted(&there, &other(&["a", "b"]));
    assert!(other_sweeps);
    // A third source comes: who does not name it yet is held, and only he.
    let (there, one_sweeps) = adopted(&there, &one(&["a", "b", "c"]));
    assert!(one_sweeps);
    assert!(beside_others(Some(&there), &other(&["a", "b"])).is_err());
    assert_eq!(held_by(Some(&there), &one(&["a", "b", "c"])), [other(&[]).shown()]);
    let (there, other_sweeps) = adopted(&there, &other(&["a", "b", "c"]));
    assert!(other_sweeps && beside_others(Some(&there), &one(&["a", "b", "c"])).is_ok());
    assert!(held_by(Some(&there), &one(&["a", "b", "c"])).is_empty());
    // And goes: who drops it first is held until the other does.
    let (there, one_sweeps) = adopted(&there, &one(&["a", "b"]));
    assert!(!one_sweeps);
    assert_eq!(beside_others(Some(&there), &other(&["a", "b", "c"])), Ok(()), "the other goes on");
    let (there, other_sweeps) = adopted(&there, &other(&["a", "b"]));
    assert!(other_sweeps && beside_others(Some(&there), &one(&["a", "b"])).is_ok());
}

#[test]
fn s7_equal_owners_are_an_equal_marker_and_no_installation_is_in_it_twice() {
    let (one, other) = (owner(1, 5, &["a"]), owner(2, 8, &["a"]));
    assert_eq!(Marker::of(other.clone()).with(one.clone()), Marker::of(one.clone()).with(other.clone()));
    let read = |owners: &[&Owner]| serde_json::from_value::<Marker>(serde_json::json!({ "owners": owners }));
    let marker = Marker::of(one.clone()).with(other.clone());
    assert_eq!(read(&[&other, &one]).unwrap(), marker);
    assert_eq!(serde_json::to_value(&marker).unwrap(), serde_json::json!({ "owners": [one, other] }));
    assert!(read(&[&one, &other, &one]).unwrap_err().to_string().contains("twice"));
}

#[test]
fn s7_a_step_is_one_owners() {
    let both = |one, other| marker(&[owner(1, one, &["a"]), owner(2, other, &["a"])]);
    for (before, after, is_step) in [
        (both(5, 8), both(6, 8), true),
        (both(5, 8), both(5, 9), true),
        (both(5, 8), both(5, 8), false),
        (both(5, 8), both(7, 8), false),
        (both(6, 8), both(5, 8), false),
        (both(5, 8), both(6, 9), false),
        (marker(&[owner(1, 5, &["a"])]), both(5, 0), true),
        (marker(&[owner(1, 5, &["a"])]), both(6, 0), false),
        (both(5, 8), marker(&[owner(1, 6, &["a"])]), false),
        (both(u64::MAX, 8), both(0, 8), false),
    ] {
        assert_eq!(after.is_step_from(&before), is_step, "{before:?} to {after:?}");
    }
    let changed = owner(1, 6, &["a", "b"]);
    assert!(both(5, 8).with(changed).is_step_from(&both(5, 8)), "what it asks moves with its count");
}

#[test]
fn s7_who_is_where_it_was_objects_once_to_a_marker_that_is_ahead() {
    let us = Uuid::from_u128(US);
    let entry = |installation, counter| Owner { installation, name: "x".to_owned(), counter, truths: named(&["a"]) };
    let marker = Marker::of(entry(us, 7)).with(entry(Uuid::from_u128(US + 1), 3));
    let table = [
        // It last moved in, it is now in, it has objected; it objects.
        (Some("1"), Some("1"), false, true),
        (Some("1"), Some("1"), true, false),
        (Some("1"), Some("2"), false, false),
        (Some("1"), Some("2"), true, false),
        (None, Some("2"), false, true),
        (Some("1"), None, false, true),
        (None, None, false, true),
        (None, None, true, false),
    ];
    for (moved_in, server, objected, objects) in table {
        let moved_in = moved_in.map(ToOwned::to_owned);
        let adopted = AdoptedStore { counter: 6, moved_in, objected, ..AdoptedStore::default() };
        let to = adopted.objection(us, &marker, server);
        let what = format!("{adopted:?} in {server:?}");
        assert_eq!(to.is_some(), objects, "{what}");
        if let Some(to) = to {
            assert!(!to.is_step_from(&marker), "it would pass for an interrupted move: {what}: {to:?}");
            assert_eq!(to, marker.with(entry(us, 9)), "{what}");
        }
    }
    let alone = Marker::of(entry(Uuid::from_u128(US + 1), 3));
    assert_eq!(AdoptedStore::default().objection(us, &alone, None), None, "nothing of ours is there");
    assert_eq!(AdoptedStore::default().objection(us, &Marker::of(entry(us, u64::MAX)), None), None);
}

#[test]
fn s7_a_batch_needs_the_marker_as_the_run_left_it_whatever_our_neighbours_count() {
    let ours = owner(US, 5, &["a"]);
    let beside = |counter, sources| marker(&[ours.clone(), owner(2, counter, sources)]);
    let there = |marker: Option<&Marker>| is_still_there(Some(&ours), marker);
    let counted = |counter| there(Some(&marker(&[owner(US, counter, &["a"])])));
    assert_eq!((counted(5), counted(6), counted(4)), (Ok(()), Err(NotAdopted::Moved), Err(NotAdopted::Behind)));
    assert_eq!((there(Some(&beside(1, &["a"]))), there(Some(&beside(2, &["a"])))), (Ok(()), Ok(())));
    let asks_more = there(Some(&beside(2, &["a", "b"])));
    assert!(matches!(asks_more, Err(NotAdopted::Shared(Unshared::Differ { .. }))), "{asks_more:?}");
    assert_eq!(there(None), Err(NotAdopted::Unmarked));
    assert_eq!(there(Some(&marker(&[owner(2, 5, &["a"])]))), Err(NotAdopted::Unmarked), "it is another's now");
    assert_eq!(is_still_there(None, Some(&beside(1, &["a"]))), Err(NotAdopted::Never));
}
