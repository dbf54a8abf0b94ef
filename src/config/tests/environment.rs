//! The environment over the file, and secrets.

use super::*;

#[test]
fn a_secret_in_the_file_is_refused_and_not_repeated() {
    let text = LEAST.replace("redis://cache", "redis://user:hunter2@cache");
    let expected = "config.yaml:9:10: stores.cache.url: holds a password, which does not belong in this file; \
        give `url_file: /run/secrets/…` or COURSE_GC_STORES_CACHE_URL instead";
    assert_eq!(problems(&text, &[]), [expected]);
    let text = LEAST.replace("@db/campus", "@db/campus?password=hunter2");
    assert!(problems(&text, &[])[0].contains("holds a password"));
    let qdrant = "  vectors: { kind: qdrant, url: \"http://q:6334\", api_key: hunter2, collections: [a] }\n";
    let expected = "config.yaml:12:59: stores.vectors.api_key: is a secret, which does not belong in this file; \
        give `api_key_file: /run/secrets/…` or COURSE_GC_STORES_VECTORS_API_KEY instead";
    assert_eq!(problems(&least(qdrant), &[]), [expected]);
    let broken = LEAST.replace("redis://cache:6379/0", "redis://:hunter2@cache:port");
    assert!(!problems(&broken, &[])[0].contains("hunter2"));
}

#[test]
fn a_url_whose_password_would_be_taken_for_something_else_is_refused_and_not_repeated() {
    for url in [
        "redis:/\\:hunter2@cache:6379/0",
        "redis::hunter2@cache:6379/0",
        "redis:///:hunter2@cache:6379/0",
        "redis://:1/hunter2@cache:6379/0",
        "redis://cache:6379?:hunter2@cache",
        "redis://cache:6379#hunter2@cache",
    ] {
        let problems = problems(LEAST, &[("COURSE_GC_STORES_CACHE_URL", url)]);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("COURSE_GC_STORES_CACHE_URL: stores.cache.url: "), "{problems:?}");
        assert!(!problems[0].contains("hunter2"), "{problems:?}");
    }
}

#[test]
fn secrets_come_from_the_environment_and_are_never_shown() {
    let text = least("  vectors: { kind: qdrant, url: \"http://q:6334\", collections: [a] }\n");
    let environment = [
        ("COURSE_GC_STORES_CACHE_URL", "redis://user:hunter2@cache:6379/1"),
        ("COURSE_GC_STORES_VECTORS_API_KEY", "hunter2"),
        ("COURSE_GC_LIVENESS_CAMPUS_URL", "postgres://gc:hunter2@db/campus?sslpassword=hunter2"),
    ];
    let loaded = read(&text, &environment).unwrap();
    let url = &redis(&loaded.config).url;
    assert_eq!(url.expose(), "redis://user:hunter2@cache:6379/1");
    assert_eq!(url.to_string(), "redis://user:***@cache:6379/1");
    let Some(StoreConfig::Qdrant(vectors)) = loaded.config.stores.get("vectors") else { panic!() };
    assert_eq!(vectors.api_key.as_ref().unwrap().expose_secret(), "hunter2");
    let shown = format!("{loaded:?} {loaded:#?} {}", check_report(&loaded));
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("redis://user:***@cache:6379/1"));
}

#[test]
fn a_secret_comes_from_a_file_without_its_last_newline() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cache_url"), "redis://:hunter2@cache:6379/0\n").unwrap();
    let path = folder.path().join("config.yaml");
    std::fs::write(&path, LEAST.replace("url: redis://cache:6379/0", "url_file: cache_url")).unwrap();
    let loaded = load(&path, []).unwrap();
    assert_eq!(redis(&loaded.config).url.expose(), "redis://:hunter2@cache:6379/0");
    let report = check_report(&loaded);
    let named = format!("{}/cache_url, named at {}:9:15", folder.path().display(), path.display());
    assert!(report.contains(&named), "{report}");

    std::fs::remove_file(folder.path().join("cache_url")).unwrap();
    let lines: Vec<String> = load(&path, []).unwrap_err().lines().collect();
    let file = folder.path().join("cache_url");
    let expected = format!(
        "{}:9:15: stores.cache.url_file: cannot read {}: No such file or directory (os error 2); name a file that can be read",
        path.display(),
        file.display(),
    );
    assert_eq!(lines, [expected]);
}

#[test]
fn a_secret_is_given_once_and_the_environment_goes_first() {
    let both = least("    url_file: /nowhere/url\n");
    let expected = "config.yaml:12:15: stores.cache.url_file: is given beside `url`; keep one of them";
    assert_eq!(problems(&both, &[]), [expected]);
    let loaded = read(&both, &[("COURSE_GC_STORES_CACHE_URL", "redis://elsewhere")]).unwrap();
    assert_eq!(redis(&loaded.config).url.expose(), "redis://elsewhere");
    let lines = problems(LEAST, &[("COURSE_GC_STORES_CACHE_URL_FILE", "/nowhere/url")]);
    let start = "COURSE_GC_STORES_CACHE_URL_FILE: stores.cache.url_file: cannot read /nowhere/url: ";
    assert!(lines[0].starts_with(start), "{lines:?}");
}

#[test]
fn every_kind_of_scalar_can_come_from_the_environment() {
    let text = least("  vec-tors_2:\n");
    let environment = [
        ("COURSE_GC_INSTALLATION", "other"),
        ("COURSE_GC_LIMITS_REFUSE_DROP", "5%"),
        ("COURSE_GC_LIMITS_I_ACCEPT_1", "large_drop"),
        ("COURSE_GC_LIMITS_I_ACCEPT_0", "short_grace"),
        ("COURSE_GC_STORES_CACHE_TEMPLATES_0_EXCLUSIVE", "true"),
        ("COURSE_GC_STORES_CACHE_TEMPLATES_1", "rag:{course_id}"),
        ("COURSE_GC_STORES_VEC_TORS_2_KIND", "qdrant"),
        ("COURSE_GC_STORES_VEC_TORS_2_URL", "http://q:6334"),
        ("COURSE_GC_STORES_VEC_TORS_2_COLLECTIONS_0_NAME", "points"),
        ("COURSE_GC_LEDGER_URL", "postgres://gc:secret@db/ledger"),
        ("COURSE_GC_CONFIG", "/etc/course-gc.yaml"),
        ("PATH", "/bin"),
    ];
    let config = read(&text, &environment).unwrap().config;
    assert_eq!(config.installation, "other");
    assert_eq!(config.limits.refuse_drop.get(), 5);
    assert_eq!(config.limits.i_accept, [LimitAccept::ShortGrace, LimitAccept::LargeDrop]);
    let templates: Vec<_> = redis(&config).templates.iter().map(|t| (t.template.as_str(), t.exclusive)).collect();
    assert_eq!(templates, [("cache:{course_id}:*", true), ("rag:{course_id}", false)]);
    let Some(StoreConfig::Qdrant(vectors)) = config.stores.get("vec-tors_2") else { panic!() };
    assert_eq!(vectors.collections[0].name, "points");
    assert_eq!(config.ledger_url().expose(), "postgres://gc:secret@db/ledger");
}

#[test]
fn an_items_value_from_the_environment_leaves_its_other_fields() {
    let item = "- { template: \"cache:{course_id}:*\", exclusive: true }";
    let text = LEAST.replace("- cache:{course_id}:*", item);
    let environment = [("COURSE_GC_STORES_CACHE_TEMPLATES_0", "other:{course_id}")];
    let config = read(&text, &environment).unwrap().config;
    let template = &redis(&config).templates[0];
    assert_eq!((template.template.as_str(), template.exclusive), ("other:{course_id}", true));
}

#[test]
fn what_is_wrong_in_the_environment_names_the_variable() {
    let cases = [
        ("COURSE_GC_STORES_CACHE_ULR", "x", "names no field; did you mean COURSE_GC_STORES_CACHE_URL?"),
        ("COURSE_GC_STORES_CHACHE_URL", "x", "names no field; did you mean COURSE_GC_STORES_CACHE_URL?"),
        (
            "COURSE_GC_FAVOURITE_COLOUR_OF_ALL",
            "x",
            "names no field; remove it, or see `course-gc config example` for the fields",
        ),
        ("COURSE_GC_STORES_CACHE_TEMPLATES_7", "x", "names no field; did you mean COURSE_GC_STORES_CACHE_TEMPLATES_0?"),
        (
            "COURSE_GC_LIMITS_REFUSE_DROP",
            "lots",
            "limits.refuse_drop: `lots` is no percentage; write a whole number, 0% to 100%",
        ),
        (
            "COURSE_GC_LIMITS_REFUSE_BELOW",
            "0",
            "limits.refuse_below: 0 would take an empty database for dead courses; write at least 1",
        ),
        ("COURSE_GC_INSTALLATION", "", "installation: is empty; write a value"),
    ];
    for (name, value, expected) in cases {
        assert_eq!(problems(LEAST, &[(name, value)]), [format!("{name}: {expected}")]);
    }
}

#[test]
fn two_names_with_the_same_variables_are_refused() {
    let twin = "  a-b: { kind: redis, url: \"redis://a\", templates: [\"a:{course_id}\"] }\n  \
                a_b: { kind: redis, url: \"redis://b\", templates: [\"b:{course_id}\"] }\n";
    let lines = problems(&least(twin), &[]);
    assert_eq!(lines, ["config.yaml:13:3: stores.a_b: has the same environment variables as `a-b`; change one name"]);
}

#[test]
fn variables_that_kubernetes_makes_for_a_service_of_our_name_are_left_alone() {
    let environment = [
        ("COURSE_GC_SERVICE_HOST", "10.0.0.1"),
        ("COURSE_GC_SERVICE_PORT", "9090"),
        ("COURSE_GC_SERVICE_PORT_HTTP", "9090"),
        ("COURSE_GC_PORT", "tcp://10.0.0.1:9090"),
        ("COURSE_GC_PORT_9090_TCP", "tcp://10.0.0.1:9090"),
        ("COURSE_GC_PORT_9090_TCP_PROTO", "tcp"),
        ("COURSE_GC_METRICS_SERVICE_HOST", "10.0.0.2"),
    ];
    read(LEAST, &environment).unwrap();
    assert_eq!(problems(LEAST, &[("COURSE_GC_PORT", "9090")]).len(), 1);
}
