//! The example and the report.

use super::*;

#[test]
fn the_report_shows_each_value_and_where_it_comes_from() {
    let loaded = read(LEAST, &[("COURSE_GC_LIMITS_REFUSE_DROP", "5%")]).unwrap();
    insta::assert_snapshot!(check_report(&loaded), @r"
    config.yaml: ok

    installation                         campus                         config.yaml:1:15
    course_id                            uuid                           default
    schedule.cron                        */15 * * * *                   default
    schedule.timezone                    UTC                            default
    schedule.jitter                      0s                             default
    ledger.url                           as liveness.campus.url         default
    liveness.campus.url                  postgres://gc@db/campus        config.yaml:4:10
    liveness.campus.query                SELECT id FROM public.courses  config.yaml:5:12
    liveness.campus.i_accept             []                             default
    liveness.campus.tombstones           none                           default
    liveness.campus.organizations        none                           default
    grace.tombstoned                     15m                            default
    grace.departed                       1d                             default
    grace.stranger                       7d                             default
    limits.refuse_below                  1                              default
    limits.refuse_drop                   5%                             COURSE_GC_LIMITS_REFUSE_DROP
    limits.breaker_share                 30%                            default
    limits.breaker_share_strangers       10%                            default
    limits.breaker_courses               1000                           default
    limits.breaker_bytes                 50GB                           default
    limits.cap_courses                   none                           default
    limits.confirmation                  5s                             default
    limits.call_timeout                  10s                            default
    limits.lock_timeout                  30s                            default
    limits.i_accept                      []                             default
    stores.cache.kind                    redis                          config.yaml:8:11
    stores.cache.url                     redis://cache:6379/0           config.yaml:9:10
    stores.cache.templates[0].template   cache:{course_id}:*            config.yaml:11:9
    stores.cache.templates[0].exclusive  false                          default
    stores.cache.scan_count              100                            default
    stores.cache.batch                   1000                           default
    stores.cache.quarantine              true                           default
    stores.cache.pace.calls_per_second   none                           default
    stores.cache.pace.in_flight          16                             default
    stores.cache.pace.slow_down_over     2                              default
    stores.cache.pace.longest_rest       1s                             default
    stores.cache.restore_url             none                           default
    stores.cache.nodes                   []                             default
    stores.cache.sentinels               []                             default
    stores.cache.ca                      none                           default
    quarantine.folder                    /var/lib/course-gc/quarantine  default
    quarantine.bucket                    none                           default
    quarantine.keep                      7d                             default
    quarantine.max_size                  10GB                           default
    quarantine.min_free                  10%                            default
    quarantine.key                       none                           default
    http.listen                          127.0.0.1:9090                 default
    http.tls                             none                           default
    api                                  none                           default
    log.format                           text                           default
    log.level                            info                           default
    log.traces_url                       none                           default
    ");
}

/// Every line that the example must have for these fields, by name: as a key or mentioned.
fn names(fields: &[FieldDoc], found: &mut Vec<String>) {
    found.extend(keys(fields));
    for field in fields {
        shape_names(field.shape, found);
    }
}

fn shape_names(shape: &Shape, found: &mut Vec<String>) {
    match shape {
        Shape::Scalar(_) | Shape::Secret { .. } => {}
        Shape::Section { fields, .. } => names(fields, found),
        Shape::Kinds(kinds) => kinds.iter().for_each(|kind| names(kind.fields, found)),
        Shape::List(inner) | Shape::Map(inner) => shape_names(inner, found),
    }
}

#[test]
fn the_example_is_a_configuration() {
    let loaded = read(&example(), &[]).unwrap();
    let stores: Vec<_> = loaded.config.stores.iter().map(|(name, store)| (name, store.kind())).collect();
    let kinds = [
        ("vectors", "qdrant"),
        ("cache", "redis"),
        ("jobs", "bullmq"),
        ("uploads", "files"),
        ("media", "objects"),
        ("rows", "table"),
    ];
    assert_eq!(stores, kinds);
    assert_eq!(redis(&loaded.config).templates.len(), 10);
}

#[test]
fn the_example_names_every_field_as_often_as_there_are_such_fields() {
    let mut expected = Vec::new();
    names(Config::FIELDS, &mut expected);
    let example = example();
    let mut found: Vec<String> = example
        .lines()
        .map(|line| line.trim_start_matches([' ', '#', '-']))
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.to_owned())
        .collect();
    for name in expected {
        // A key never belongs in the file, so the example only names its file.
        let is_key = ["api_key", "access_key", "secret_key", "secret"].contains(&name.as_str());
        if is_key || name == "key" && !found.contains(&name) {
            continue;
        }
        let at = found.iter().position(|other| *other == name);
        let at = at.unwrap_or_else(|| panic!("{name} is missing in:\n{example}"));
        found.swap_remove(at);
    }
}

#[test]
fn the_example_shows_the_defaults() {
    let loaded = read(&example(), &[]).unwrap();
    let least = read(LEAST, &[]).unwrap();
    for section in ["schedule.", "grace.", "limits.", "http.", "log."] {
        let values = |loaded: &Loaded| -> Vec<(String, Option<String>)> {
            let of_section = loaded.effective.iter().filter(|e| e.path.starts_with(section));
            of_section.map(|e| (e.path.clone(), e.value.clone())).collect()
        };
        assert_eq!(values(&loaded), values(&least));
    }
}

#[test]
fn what_the_example_only_mentions_is_right_too() {
    for mentioned in ["cap_courses: ", "url: postgres"] {
        let text = example().replacen(&format!("# {mentioned}"), mentioned, 1);
        assert_ne!(text, example());
        read(&text, &[]).unwrap();
    }
    let mut text = example();
    for line in ["tombstones:", "  table: ", "  column: "] {
        assert!(text.contains(&format!("    # {line}")), "{line}");
        text = text.replacen(&format!("    # {line}"), &format!("    {line}"), 1);
    }
    let tombstones = read(&text, &[]).unwrap().config.liveness.first().1.tombstones.clone().unwrap();
    assert_eq!((tombstones.table.as_str(), tombstones.column.as_str()), ("public.courses", "id"));
}
