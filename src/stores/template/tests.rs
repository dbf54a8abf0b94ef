use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const ID: &str = "0b5a6f0e-4d7c-4a39-9a43-6d7a5f0c1e2d";
const OTHER: &str = "7f3c2b1a-0d9e-4c8b-8a7f-1e2d3c4b5a69";

fn uuid(text: &str) -> CourseId {
    IdType::Uuid.parse(text.as_bytes()).unwrap()
}

fn parse(template: &str, id_type: IdType, key: &str) -> Parse {
    Template::compile(template).unwrap().parse(id_type, key.as_bytes())
}

fn read(template: &str, key: &str) -> Parse {
    parse(template, IdType::Uuid, key)
}

fn read_integer(template: &str, key: &str) -> Parse {
    parse(template, IdType::Integer, key)
}

fn read_text(template: &str, key: &str) -> Parse {
    parse(template, texts(), key)
}

fn texts() -> IdType {
    "text:[a-z][a-z0-9-]{1,11}".parse().unwrap()
}

fn text(id: &str) -> Parse {
    Parse::Id(texts().parse(id.as_bytes()).unwrap())
}

fn templates(texts: &[&str], id_type: IdType) -> Templates {
    Templates::new(texts.iter().map(|text| Template::compile(text).unwrap()).collect(), id_type)
}

#[test]
fn a_template_names_one_course_id_and_nothing_else() {
    assert!(matches!(Template::compile(""), Err(TemplateError::NoCourseId(_))));
    assert!(matches!(Template::compile("lesson:*"), Err(TemplateError::NoCourseId(_))));
    assert!(matches!(Template::compile("{course_id}:{course_id}"), Err(TemplateError::SeveralCourseIds(_))));
    for text in
        ["{organization_id}:{course_id}", "{course_id}:{lesson_id}", "cache:{courses_id}", "{{user_id}:{course_id}"]
    {
        let error = Template::compile(text).unwrap_err();
        assert!(matches!(error, TemplateError::UnknownPlaceholder { .. }), "{text}: {error}");
    }
    let error = Template::compile("lesson:*").unwrap_err().to_string();
    assert!(error.contains("`lesson:*`") && error.contains("{course_id}"), "{error}");
    for text in
        ["{course_id}", "*{course_id}*", "{{course_id}}", "{bull}:{course_id}", "}{_{course_id}", "{x_id{course_id}"]
    {
        assert_eq!(Template::compile(text).unwrap().text(), text);
    }
}

#[test]
fn the_id_is_found_wherever_it_stands() {
    let id = Parse::Id(uuid(ID));
    assert_eq!(read("phase1_cache:{course_id}", &format!("phase1_cache:{ID}")), id);
    assert_eq!(read("{course_id}:card", &format!("{ID}:card")), id);
    assert_eq!(read("{course_id}", ID), id);
    assert_eq!(read("tag:{{course_id}}:*", &format!("tag:{{{ID}}}:x")), id);
    assert_eq!(read("lesson_md:{course_id}:*", &format!("lesson_md:{ID}:{OTHER}")), id);
    assert_eq!(read("idempotency:*-{course_id}-*", &format!("idempotency:auto-{ID}-stage6-lesson-1.2")), id);
    assert_eq!(read("idempotency:*{course_id}*", &format!("idempotency:worker-fallback-stage2-{ID}")), id);
    assert_eq!(read("*{course_id}*", ID), id);
    assert_eq!(read("**{course_id}**", ID), id, "a star may match nothing");
    assert_eq!(read("a*b*c:{course_id}:*d*e", &format!("a-b-b-c:c:{ID}:d-e-e")), id);
    assert_eq!(read("?[a]:{course_id}", &format!("?[a]:{ID}")), id, "nothing but * is special");
}

#[test]
fn s5_a_text_is_read_whole_and_only_one_way() {
    assert_eq!(read_text("lesson:{course_id}:*", "lesson:rust-101:intro:x"), text("rust-101"));
    assert_eq!(read_text("{course_id}", "rust-101"), text("rust-101"));
    assert_eq!(read_text("*{course_id}*", "x:rust-101/y"), text("rust-101"), "`x` and `y` are too short");
    assert_eq!(read_text("*:{course_id}/*", "x:rust-101/y"), text("rust-101"));
    assert_eq!(read_text("*{course_id}", "rust-101"), text("rust-101"), "not t-101, nor 101");
    assert_eq!(read_text("job-*-{course_id}-*", "job-1-rust-101-x"), Parse::Ambiguous, "rust, or rust-101");
    assert_eq!(read_text("a:{course_id}", "a:Rust"), Parse::NoId);
    assert_eq!(read_text("a:{course_id}", "a:longer-than-twelve"), Parse::NoId);
    assert_eq!(read_text("a:{course_id}:*", &format!("a:{}:x", "a".repeat(100))), Parse::NoId);
}

#[test]
fn literals_must_match_from_end_to_end() {
    for (template, key) in [
        ("phase1_cache:{course_id}", format!("xphase1_cache:{ID}")),
        ("phase1_cache:{course_id}", format!("phase1_cach:{ID}")),
        ("{course_id}:card", format!("{ID}:cards")),
        ("a*b:{course_id}", format!("a:{ID}")),
        ("{course_id}:a*b", format!("{ID}:ac")),
        ("ab*ba:{course_id}", format!("aba:{ID}")),
        ("{course_id}", String::new()),
    ] {
        let expected = if template == "{course_id}" { Parse::NoId } else { Parse::NoMatch };
        assert_eq!(read(template, &key), expected, "{template} {key}");
    }
    assert_eq!(read("ab{course_id}bc", "abc"), Parse::NoMatch, "literals do not share bytes");
}

#[test]
fn s5_a_name_without_a_canonical_id_is_unrecognised() {
    let upper = ID.to_uppercase();
    let compact = ID.replace('-', "");
    for part in
        ["", "../../etc", "undefined", "null", &upper, &compact, &format!("{{{ID}}}"), &format!("{ID} "), &ID[1..]]
    {
        assert_eq!(read("cache:{course_id}", &format!("cache:{part}")), Parse::NoId, "{part}");
        assert_eq!(read("cache:{course_id}:*", &format!("cache:{part}:x")), Parse::NoId, "{part}");
    }
    for part in ["", "../../etc", "+1", "01", "-0", "1.0", "99999999999999999999"] {
        assert_eq!(read_integer("cache:{course_id}", &format!("cache:{part}")), Parse::NoId, "{part}");
    }
}

#[test]
fn s5_two_ids_in_the_owners_place_are_ambiguous() {
    assert_eq!(read("a:*{course_id}*", &format!("a:{ID}:{OTHER}")), Parse::Ambiguous);
    assert_eq!(read("a:*{course_id}*", &format!("a:{ID}:{ID}")), Parse::Id(uuid(ID)), "one id twice is one id");
    assert_eq!(
        read("a:*{course_id}", &format!("a:{ID}:{OTHER}")),
        Parse::Id(uuid(OTHER)),
        "only the last can be meant"
    );
    assert_eq!(read_integer("a*:{course_id}:*", "a:1:2:3"), Parse::Ambiguous);
}

#[test]
fn s5_an_id_is_not_cut_out_of_something_longer() {
    assert_eq!(read("*{course_id}*", &format!("a{ID}")), Parse::NoId);
    assert_eq!(read("*{course_id}*", &format!("{ID}F")), Parse::NoId);
    assert_eq!(read("a{course_id}*", &format!("a{ID}:")), Parse::Id(uuid(ID)), "literal text may touch it");
    assert_eq!(read_integer("a*{course_id}", "a123"), Parse::Id(CourseId::Integer(123)));
    assert_eq!(read_integer("a{course_id}*", "a123"), Parse::Id(CourseId::Integer(123)));
    assert_eq!(read_integer("a*{course_id}*", "a123b"), Parse::Id(CourseId::Integer(123)));
    assert_eq!(read_integer("a1{course_id}", "a123"), Parse::Id(CourseId::Integer(23)), "literal text is meant");
    assert_eq!(read_integer("*{course_id}*", "a1b2"), Parse::Ambiguous);
    assert_eq!(read_integer("{course_id}0*", "1000"), Parse::Ambiguous);
    assert_eq!(read_integer("*{course_id}*", "v99999999999999999999"), Parse::NoId, "no id in a longer number");
}

#[test]
fn s5_a_dash_after_a_star_may_be_a_sign() {
    assert_eq!(read_integer("a*{course_id}", "a-5"), Parse::Ambiguous);
    assert_eq!(read_integer("a*-{course_id}", "a-5"), Parse::Id(CourseId::Integer(5)));
    assert_eq!(read_integer("a:{course_id}", "a:-5"), Parse::Id(CourseId::Integer(-5)));
    assert_eq!(read_integer("id-{course_id}-*", "id-12-1700000000000"), Parse::Id(CourseId::Integer(12)));
    assert_eq!(
        read_integer("a:{course_id}", "a:-9223372036854775808"),
        Parse::Id(CourseId::Integer(i64::MIN)),
        "the longest id"
    );
}

#[test]
fn the_first_template_that_reads_the_id_owns_the_name() {
    let set = templates(&["lesson:{course_id}:*", "lesson:uuid:{course_id}:*", "*:{course_id}:*"], IdType::Uuid);
    let owned = |source, id| Claim::Owned(SourceIndex(source), uuid(id));
    assert_eq!(set.claim(format!("lesson:{ID}:x").as_bytes()), owned(0, ID));
    assert_eq!(set.claim(format!("lesson:uuid:{ID}:x").as_bytes()), owned(1, ID));
    assert_eq!(set.claim(format!("other:{ID}:x").as_bytes()), owned(2, ID));
    assert_eq!(set.claim(b"lesson:none:x"), Claim::Unrecognised(SourceIndex(0)));
    assert_eq!(set.claim(b"concurrency:7"), Claim::Unclaimed);
}

#[test]
fn s5_templates_that_read_different_ids_make_a_name_unrecognised() {
    let set = templates(&["a:{course_id}:*", "a:*:{course_id}"], IdType::Uuid);
    assert_eq!(set.claim(format!("a:{ID}:{OTHER}").as_bytes()), Claim::Unrecognised(SourceIndex(0)));
    assert_eq!(set.claim(format!("a:{ID}:{ID}").as_bytes()), Claim::Owned(SourceIndex(0), uuid(ID)));
    assert_eq!(set.claim(format!("a:x:{ID}").as_bytes()), Claim::Owned(SourceIndex(1), uuid(ID)));
}

#[test]
fn a_long_name_takes_linear_time() {
    let stars = format!("{}{{course_id}}{}", "*1".repeat(50), "1*".repeat(50));
    let template = Template::compile(&stars).unwrap();
    let name = vec![b'1'; 1 << 17];
    assert_eq!(template.parse(IdType::Integer, &name), Parse::Ambiguous);
    assert_eq!(template.parse(IdType::Uuid, &name), Parse::NoId);
    let dashes = vec![b'-'; 1 << 17];
    assert_eq!(read("*{course_id}*", std::str::from_utf8(&dashes).unwrap()), Parse::NoId);
}

/// The meaning of a template, found the slow way: try every piece of the key.
fn reference(template: &str, id_type: IdType, key: &[u8]) -> Parse {
    let (before, after) = template.split_once(PLACEHOLDER).unwrap();
    let touches = |byte: Option<&u8>| match id_type {
        IdType::Uuid => byte.is_some_and(u8::is_ascii_hexdigit),
        IdType::Integer => byte.is_some_and(u8::is_ascii_digit),
        IdType::Text(_) => byte.is_some_and(is_of_an_id),
    };
    let mut ids = std::collections::BTreeSet::new();
    let mut matches = false;
    for from in 0..=key.len() {
        for to in from..=key.len() {
            if !glob(before.as_bytes(), &key[..from]) || !glob(after.as_bytes(), &key[to..]) {
                continue;
            }
            matches = true;
            let cut = (before.ends_with('*') && touches(key[..from].last()))
                || (after.starts_with('*') && touches(key[to..].first()));
            if let Some(id) = id_type.parse(&key[from..to])
                && !cut
            {
                ids.insert(id);
            }
        }
    }
    match (matches, ids.len()) {
        (false, _) => Parse::NoMatch,
        (true, 0) => Parse::NoId,
        (true, 1) => Parse::Id(*ids.first().unwrap()),
        (true, _) => Parse::Ambiguous,
    }
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|skipped| glob(rest, &text[skipped..])),
        Some((byte, rest)) => text.split_first().is_some_and(|(first, text)| first == byte && glob(rest, text)),
    }
}

/// Text that an id cannot be read in or mistaken for.
const PLAIN: &str = "[g-z:_]{0,6}";

proptest! {
    #[test]
    fn what_a_template_made_it_reads(
        pieces in proptest::collection::vec((PLAIN, any::<bool>(), PLAIN), 0..4),
        place in 0usize..4,
        id in any::<u128>(),
        integer in any::<i64>(),
    ) {
        for (id_type, id) in [
            (IdType::Uuid, CourseId::Uuid(Uuid::from_u128(id))),
            (IdType::Integer, CourseId::Integer(integer.saturating_abs())),
        ] {
            let (mut template, mut key) = (String::new(), String::new());
            for (at, (literal, star, filling)) in pieces.iter().enumerate() {
                if at == place.min(pieces.len() - 1) {
                    template.push_str(PLACEHOLDER);
                    key.push_str(&id.to_string());
                }
                template.push_str(literal);
                key.push_str(literal);
                if *star {
                    template.push('*');
                    key.push_str(filling);
                }
            }
            if pieces.is_empty() {
                template.push_str(PLACEHOLDER);
                key.push_str(&id.to_string());
            }
            prop_assert_eq!(parse(&template, id_type, &key), Parse::Id(id), "{} {}", template, key);
        }
    }

    #[test]
    fn it_means_what_trying_everything_means(
        before in "[1a*-]{0,4}",
        after in "[1a*-]{0,4}",
        key in "[12a-]{0,9}",
    ) {
        let template = format!("{before}{PLACEHOLDER}{after}");
        let expected = reference(&template, IdType::Integer, key.as_bytes());
        prop_assert_eq!(parse(&template, IdType::Integer, &key), expected, "{} {}", template, key);
    }

    #[test]
    fn it_means_what_trying_everything_means_for_uuids(
        before in "[0a*]{0,3}",
        after in "[0:*]{0,3}",
        parts in proptest::collection::vec(prop_oneof![Just(ID), Just(OTHER), Just("0"), Just("a"), Just(":"), Just("-4d7c")], 0..5),
    ) {
        let (template, key) = (format!("{before}{PLACEHOLDER}{after}"), parts.concat());
        let expected = reference(&template, IdType::Uuid, key.as_bytes());
        prop_assert_eq!(read(&template, &key), expected, "{} {}", template, key);
    }

    #[test]
    fn it_means_what_trying_everything_means_for_texts(
        before in "[ab*:-]{0,4}",
        after in "[ab*:-]{0,4}",
        key in "[ab:-]{0,9}",
    ) {
        let template = format!("{before}{PLACEHOLDER}{after}");
        for pattern in ["text:[ab]{1,3}", "text:[ab-]{2,4}"] {
            let id_type = pattern.parse().unwrap();
            let expected = reference(&template, id_type, key.as_bytes());
            prop_assert_eq!(parse(&template, id_type, &key), expected, "{} {}", template, key);
        }
    }

    #[test]
    fn s5_arbitrary_bytes_never_panic_nor_yield_an_id_that_is_not_there(
        before in "[a0*:-]{0,6}",
        after in "[a0*:-]{0,6}",
        key in proptest::collection::vec(prop_oneof![any::<u8>(), b'0'..=b'9', Just(b'-'), Just(b':')], 0..80),
    ) {
        let template = Template::compile(&format!("{before}{PLACEHOLDER}{after}")).unwrap();
        for id_type in [IdType::Uuid, IdType::Integer, texts()] {
            if let Parse::Id(id) = template.parse(id_type, &key) {
                let text = id.to_string().into_bytes();
                prop_assert!(key.windows(text.len()).any(|window| window == text));
            }
        }
    }
}
