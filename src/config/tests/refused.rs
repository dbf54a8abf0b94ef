//! What is refused, and in which words.

use super::*;

#[test]
fn what_is_wrong_has_its_place_its_path_and_what_would_be_right() {
    let template = |template: &str| LEAST.replace("cache:{course_id}:*", template);
    let objects = |url: &str, bucket: &str, layout: &str| {
        let address = format!("  media:\n    kind: objects\n    url: {url}\n    bucket: {bucket}\n");
        least(&(address + &format!("    layout: \"{layout}\"\n")))
    };
    let files = |root: &str, layout: &str| {
        least(&format!("  uploads:\n    kind: files\n    root: {root}\n    layout: \"{layout}\"\n"))
    };
    let cases: Vec<(String, &str)> = vec![
        // The file as a whole.
        (
            String::new(),
            "config.yaml: installation: is missing\n\
             config.yaml: liveness: has no entry; write at least one `name:` beneath it\n\
             config.yaml: stores: has no entry; write at least one `name:` beneath it",
        ),
        ("a: [1".into(), "config.yaml:2:1: is not YAML: while parsing a flow sequence, expected ',' or ']'"),
        ("- a".into(), "config.yaml:1:1: has no fields; write `name: value` lines beneath it"),
        (least("---\nmore: 1\n"), "config.yaml:12:1: a second document begins; keep one"),
        (
            least("log: !x { level: info }\n"),
            "config.yaml:12:6: log: has the tag `!x`; tags are not supported, write the value alone",
        ),
        (
            least("log: &a { level: info }\nhttp: *a\n"),
            "config.yaml:13:7: http: is an alias; aliases are not supported, write the value again",
        ),
        (least("? [a]\n: b\n"), "config.yaml:12:3: has a key that is no text; write a name"),
        // Fields.
        (least("installation: other\n"), "config.yaml:12:1: installation: is given twice, first in line 1; keep one"),
        (least("    bach: 9\n"), "config.yaml:12:5: stores.cache.bach: is no known field; did you mean `batch`?"),
        (least("limit: {}\n"), "config.yaml:12:1: limit: is no known field; did you mean `limits`?"),
        (
            least("log: { colour: red }\n"),
            "config.yaml:12:8: log.colour: is no known field; known here: format, level, traces_url, traces_url_file",
        ),
        (
            least("log: { level: }\n").replace("level: }", "level: [info] }"),
            "config.yaml:12:15: log.level: is not a single value; write one",
        ),
        (least("log: text\n"), "config.yaml:12:6: log: has no fields; write `name: value` lines beneath it"),
        (LEAST.replace("installation: campus\n", ""), "config.yaml:1:1: installation: is missing"),
        (
            LEAST.replace("campus\nliveness", "Campus!\nliveness"),
            "config.yaml:1:15: installation: `Campus!` is no installation's name; use a to z, 0 to 9 and hyphens, at most 40",
        ),
        (
            LEAST.replace("  cache:", "  Cache:"),
            "config.yaml:7:3: stores.Cache: is no name; use a to z, 0 to 9, hyphens and underscores, at most 40",
        ),
        (
            LEAST.replace("kind: redis", "kind: mysql"),
            "config.yaml:8:11: stores.cache.kind: `mysql` is no kind of store; possible: qdrant, redis, bullmq, files, objects, table",
        ),
        (LEAST.replace("    kind: redis\n", ""), "config.yaml:8:5: stores.cache.kind: is missing"),
        (
            LEAST[..LEAST.find("stores").unwrap()].into(),
            "config.yaml:1:1: stores: has no entry; write at least one `name:` beneath it",
        ),
        // The pace.
        (
            least("    pace: { calls_per_second: 0, in_flight: 1, slow_down_over: 1, longest_rest: 11s }\n"),
            "config.yaml:12:31: stores.cache.pace.calls_per_second: 0 is out of range; write 1 to 100000\n\
             config.yaml:12:45: stores.cache.pace.in_flight: 1 is out of range; write 2 to 256\n\
             config.yaml:12:64: stores.cache.pace.slow_down_over: 1 is out of range; write 1.1 to 1000\n\
             config.yaml:12:81: stores.cache.pace.longest_rest: 11s is out of range; write 0s to 10s",
        ),
        (
            least("    pace: { slow_down_over: nan }\n"),
            "config.yaml:12:29: stores.cache.pace.slow_down_over: `nan` is not right here; write a number, as in 1.5",
        ),
        (
            least("    pace: { rate: 5 }\n"),
            "config.yaml:12:13: stores.cache.pace.rate: is no known field; known here: calls_per_second, in_flight, \
             slow_down_over, longest_rest",
        ),
        // The API.
        (least("api: {}\n"), "config.yaml:12:6: api: lets nobody in; give tokens, jwt or both"),
        (
            least("api: { wait: 51s, requests_per_minute: 0, tokens: { web: { file: web, scopes: [] } } }\n"),
            "config.yaml:12:14: api.wait: 51s is out of range; write 1s to 50s\n\
             config.yaml:12:40: api.requests_per_minute: 0 is out of range; write 1 to 1000000\n\
             config.yaml:12:66: api.tokens.web.file: `web` is not absolute; write the file's whole path\n\
             config.yaml:12:79: api.tokens.web.scopes: is empty, which is good for nothing; name read, cleanup or admin",
        ),
        (
            least("api: { tokens: { web: { file: /run/web, scopes: [write] } } }\n"),
            "config.yaml:12:50: api.tokens.web.scopes[0]: `write` is no scope; possible: read, cleanup, admin",
        ),
        (
            least("api: { jwt: { issuer: a, audience: b, jwks_file: jwks, jwks_url: ftp://x } }\n"),
            "config.yaml:12:13: api.jwt: lets nobody do anything; name roles in read_roles, cleanup_roles or admin_roles\n\
             config.yaml:12:13: api.jwt: needs one key; give one of secret, jwks_file and jwks_url\n\
             config.yaml:12:50: api.jwt.jwks_file: `jwks` is not absolute; write the file's whole path\n\
             config.yaml:12:66: api.jwt.jwks_url: begins with `ftp://`; write https:// or http://",
        ),
        (
            least("log: { traces_url: grpc://collector:4317 }\n"),
            "config.yaml:12:20: log.traces_url: begins with `grpc://`; write https:// or http://",
        ),
        (
            least("api: { jwt: { issuer: a, audience: b, secret: s } }\n"),
            "config.yaml:12:47: api.jwt.secret: is a secret, which does not belong in this file; give `secret_file: /run/secrets/…` or COURSE_GC_API_JWT_SECRET instead",
        ),
        // Scalars.
        (
            least("course_id: text\n"),
            "config.yaml:12:12: course_id: `text` is no kind of course id that this version knows; possible: uuid, integer, text:PATTERN",
        ),
        (
            least("schedule: { cron: daily }\n"),
            "config.yaml:12:19: schedule.cron: `daily` is no cron expression (Invalid pattern: Pattern must have 5 or 6 fields when years are disallowed.); write five fields (minute hour day month weekday) or six with seconds first, as in \"*/15 * * * *\"",
        ),
        (
            least("schedule: { cron: 0 0 30 2 * }\n"),
            "config.yaml:12:19: schedule.cron: `0 0 30 2 *` never comes; write five fields (minute hour day month weekday) or six with seconds first, as in \"*/15 * * * *\"",
        ),
        (
            least("schedule: { timezone: Berlin }\n"),
            "config.yaml:12:23: schedule.timezone: `Berlin` is not right here; write a zone of the IANA database, as in Europe/Berlin",
        ),
        (
            least("grace: { departed: 24 }\n"),
            "config.yaml:12:20: grace.departed: `24` is no duration; write a number and a unit, as in 10s, 15m, 24h or 7d",
        ),
        (
            least("limits: { refuse_drop: 20 }\n"),
            "config.yaml:12:24: limits.refuse_drop: `20` is no percentage; write a whole number, 0% to 100%",
        ),
        (
            least("limits: { refuse_drop: 101% }\n"),
            "config.yaml:12:24: limits.refuse_drop: `101%` is no percentage; write a whole number, 0% to 100%",
        ),
        (
            least("limits: { breaker_bytes: 50 gigs }\n"),
            "config.yaml:12:26: limits.breaker_bytes: `50 gigs` is no size; write a whole number and B, kB, MB, GB, TB, KiB, MiB, GiB or TiB, as in 50GB",
        ),
        (
            least("limits: { breaker_bytes: 99999999999TB }\n"),
            "config.yaml:12:26: limits.breaker_bytes: `99999999999TB` is no size; write a whole number and B, kB, MB, GB, TB, KiB, MiB, GiB or TiB, as in 50GB",
        ),
        (
            least("limits: { cap_courses: -1 }\n"),
            "config.yaml:12:24: limits.cap_courses: `-1` is not right here; write a whole number, as in 100",
        ),
        (
            least("limits: { i_accept: [everything] }\n"),
            "config.yaml:12:22: limits.i_accept[0]: `everything` is no limit that can be passed; possible: short_grace, short_quarantine, large_drop, large_share",
        ),
        (
            least("    quarantine: false\napi: { live_cleanups_per_hour: 0, tokens: { web: { file: /run/web } } }\n"),
            "config.yaml:12:17: stores.cache.quarantine: is false, and api.live_cleanups_per_hour lets what live courses have be \
             deleted, of which a copy is always kept; leave out one of the two\n\
             config.yaml:13:32: api.live_cleanups_per_hour: 0 is out of range; write 1 to 1000",
        ),
        (
            least("http: { tls: { certificate_file: tls.crt, key_file: tls.key } }\n"),
            "config.yaml:12:34: http.tls.certificate_file: `tls.crt` is not absolute; write the file's whole path\n\
             config.yaml:12:53: http.tls.key_file: `tls.key` is not absolute; write the file's whole path",
        ),
        (
            least("http: { listen: 9090 }\n"),
            "config.yaml:12:17: http.listen: `9090` is not right here; write an address and a port, as in 127.0.0.1:9090",
        ),
        (
            least("log: { level: loud }\n"),
            "config.yaml:12:15: log.level: `loud` is no log level; possible: error, warn, info, debug, trace",
        ),
        // Limits.
        (
            least("limits: { refuse_below: 0 }\n"),
            "config.yaml:12:25: limits.refuse_below: 0 would take an empty database for dead courses; write at least 1",
        ),
        (
            least("limits: { refuse_drop: 51% }\n"),
            "config.yaml:12:24: limits.refuse_drop: 51% is above 50%; lower it, or add large_drop to limits.i_accept",
        ),
        (
            least("limits: { breaker_share: 51% }\n"),
            "config.yaml:12:26: limits.breaker_share: 51% is above 50%; lower it, or add large_share to limits.i_accept",
        ),
        (
            least("limits: { cap_courses: 0 }\n"),
            "config.yaml:12:24: limits.cap_courses: 0 would hold everything; write at least 1",
        ),
        (
            least("limits: { confirmation: 31s }\n"),
            "config.yaml:12:25: limits.confirmation: 31s is out of range; write 1s to 30s",
        ),
        (
            least("limits: { call_timeout: 1h }\n"),
            "config.yaml:12:25: limits.call_timeout: 1h is out of range; write 100ms to 5m",
        ),
        (
            least("grace: { tombstoned: 59s }\n"),
            "config.yaml:12:22: grace.tombstoned: 59s is below the floor of 1m; raise it, or add short_grace to limits.i_accept",
        ),
        (
            least("grace: { departed: 59m }\n"),
            "config.yaml:12:20: grace.departed: 59m is below the floor of 1h; raise it, or add short_grace to limits.i_accept",
        ),
        (
            least("grace: { stranger: 23h }\n"),
            "config.yaml:12:20: grace.stranger: 23h is below the floor of 1d; raise it, or add short_grace to limits.i_accept",
        ),
        // Liveness.
        (
            LEAST.replace("\nstores", "\n    tombstones: { table: courses }\nstores"),
            "config.yaml:6:26: liveness.campus.tombstones.table: `courses` is no schema and table; write both, without quotes, as in public.courses",
        ),
        (
            LEAST.replace("postgres://gc@db", "mysql://gc@db"),
            "config.yaml:4:10: liveness.campus.url: begins with `mysql://`; write postgres:// or postgresql://",
        ),
        (
            LEAST.replace("postgres://gc@db/campus", "db/campus"),
            "config.yaml:4:10: liveness.campus.url: is no URL: relative URL without a base; write scheme://host:port/path",
        ),
        (
            LEAST.replace("    url: postgres://gc@db/campus\n", ""),
            "config.yaml:4:5: liveness.campus.url: is missing; give `url`, `url_file` or COURSE_GC_LIVENESS_CAMPUS_URL",
        ),
        (
            LEAST.replace("SELECT id FROM public.courses", "\"  \""),
            "config.yaml:5:12: liveness.campus.query: is empty; write a value",
        ),
        // Redis.
        (
            template("cache:*"),
            "config.yaml:11:9: stores.cache.templates[0]: `cache:*` does not contain {course_id}; write where the id stands, as in \"cache:{course_id}:*\"",
        ),
        (
            template("a:{course_id}:{course_id}"),
            "config.yaml:11:9: stores.cache.templates[0]: `a:{course_id}:{course_id}` contains {course_id} more than once; write it once and * elsewhere",
        ),
        (
            template("a:{user_id}:{course_id}"),
            "config.yaml:11:9: stores.cache.templates[0]: `a:{user_id}:{course_id}` contains {user_id}, which means nothing here; write * for any text",
        ),
        (
            files("/data/u", "{course_id}/images"),
            "config.yaml:15:13: stores.uploads.layout: `{course_id}/images` does not end with {course_id}; write names, {organization_id} or * for any name, and {course_id} as the last, as in \"{organization_id}/{course_id}\"",
        ),
        (
            template("a:{course_id}:**"),
            "config.yaml:11:9: stores.cache.templates[0]: `a:{course_id}:**` contains **; write * for any text",
        ),
        (
            template("\"*{course_id}*\""),
            "config.yaml:11:9: stores.cache.templates[0]: `*{course_id}*` would match any key that holds an id; write the text around it, as in \"cache:{course_id}\"",
        ),
        (
            template("\"{course_id}\""),
            "config.yaml:11:9: stores.cache.templates[0]: `{course_id}` would match any key that holds an id; write the text around it, as in \"cache:{course_id}\"",
        ),
        (
            LEAST.replace("\n      - cache:{course_id}:*", " []"),
            "config.yaml:10:16: stores.cache.templates: is empty; write at least one template, as in \"cache:{course_id}:*\"",
        ),
        (least("    batch: 0\n"), "config.yaml:12:12: stores.cache.batch: 0 is out of range; write 1 to 10000"),
        (
            least("      - cache:{course_id}:*\n"),
            "config.yaml:12:9: stores.cache.templates[1]: `cache:{course_id}:*` is claimed by stores.cache.templates[0] already; keep one of them",
        ),
        (
            least("  other:\n    kind: redis\n    url: redis://CACHE\n    templates: [\"cache:{course_id}:*\"]\n"),
            "config.yaml:15:17: stores.other.templates[0]: `cache:{course_id}:*` is claimed by stores.cache.templates[0] already; keep one of them",
        ),
        // Qdrant.
        (
            least("  vectors: { kind: qdrant, url: \"http://q:6334\", collections: [a, { name: a }] }\n"),
            "config.yaml:12:67: stores.vectors.collections[1]: `a` is claimed by stores.vectors.collections[0] already; keep one of them",
        ),
        (
            least("  vectors: { kind: qdrant, url: \"http://q:6334\", collections: [] }\n"),
            "config.yaml:12:63: stores.vectors.collections: is empty; name at least one collection",
        ),
        (
            least("  vectors: { kind: qdrant, url: \"http://q:6334\", collections: a }\n"),
            "config.yaml:12:63: stores.vectors.collections: is not a list; write `- ` before each item",
        ),
        (
            least("  vectors: { kind: qdrant, url: \"http://q:6334\", collections: [\"materials-**\"] }\n"),
            "config.yaml:12:64: stores.vectors.collections[0]: `materials-**` contains **; write * for any text",
        ),
        (
            least(
                "  vectors: { kind: qdrant, url: \"http://q:6334\", collections: [\"materials-*\", materials-old] }\n  more: { kind: qdrant, url: \"http://q:6334\", collections: [materials-a] }\n",
            ),
            "config.yaml:13:61: stores.more.collections[0]: `materials-a` is claimed by stores.vectors.collections[0] already; keep one of them",
        ),
        // Tables.
        (
            least("  rows: { kind: table, url: \"postgres://db/campus\", tables: [cache] }\n"),
            "config.yaml:12:62: stores.rows.tables[0].table: `cache` is no schema and table; write both, without quotes, as in public.courses",
        ),
        (
            least(
                "  rows: { kind: table, url: \"postgres://db/campus\", tables: [a.b, { table: a.b, column: other }] }\n",
            ),
            "config.yaml:12:67: stores.rows.tables[1]: `a.b` is claimed by stores.rows.tables[0] already; keep one of them",
        ),
        (
            least("  rows: { kind: table, url: \"postgres://db/campus\", tables: [course_gc.runs] }\n"),
            "config.yaml:12:62: stores.rows.tables[0].table: is in the schema course_gc, which is course-gc's own",
        ),
        (
            least("  rows: { kind: table, url: \"postgres://db/campus\", tables: [] }\n"),
            "config.yaml:12:61: stores.rows.tables: is empty; name at least one table, as in public.rag_context_cache",
        ),
        // Files.
        (
            files("/", "{course_id}"),
            "config.yaml:14:11: stores.uploads.root: `/` is not the application's alone; write the folder of its files, as in /data/uploads",
        ),
        (
            files("/home/", "{course_id}"),
            "config.yaml:14:11: stores.uploads.root: `/home/` is not the application's alone; write the folder of its files, as in /data/uploads",
        ),
        (
            files("/etc/uploads", "{course_id}"),
            "config.yaml:14:11: stores.uploads.root: `/etc/uploads` is a system folder; write the folder of the application's files, as in /data/uploads",
        ),
        (
            files("uploads", "{course_id}"),
            "config.yaml:14:11: stores.uploads.root: `uploads` is not absolute; write the whole path, as in /data/uploads",
        ),
        (
            files("/data/../etc", "{course_id}"),
            "config.yaml:14:11: stores.uploads.root: `/data/../etc` contains `..`; write the path without",
        ),
        (
            files("/data/u", "{organization_id}"),
            "config.yaml:15:13: stores.uploads.layout: `{organization_id}` does not end with {course_id}; write names, {organization_id} or * for any name, and {course_id} as the last, as in \"{organization_id}/{course_id}\"",
        ),
        (
            files("/data/u", "a/../{course_id}"),
            "config.yaml:15:13: stores.uploads.layout: `a/../{course_id}` contains `.` or `..`; write names, {organization_id} or * for any name, and {course_id} as the last, as in \"{organization_id}/{course_id}\"",
        ),
        (
            files("/data/u", "/{course_id}"),
            "config.yaml:15:13: stores.uploads.layout: `/{course_id}` has an empty component; write names, {organization_id} or * for any name, and {course_id} as the last, as in \"{organization_id}/{course_id}\"",
        ),
        (
            files("/data/u", "c-{course_id}"),
            "config.yaml:15:13: stores.uploads.layout: `c-{course_id}` has a component that is neither a name nor one placeholder; write names, {organization_id} or * for any name, and {course_id} as the last, as in \"{organization_id}/{course_id}\"",
        ),
        (
            files("/data/u", "{course_id}/{course_id}"),
            "config.yaml:15:13: stores.uploads.layout: `{course_id}/{course_id}` has {course_id} more than once; write names, {organization_id} or * for any name, and {course_id} as the last, as in \"{organization_id}/{course_id}\"",
        ),
        (
            files("/data/u", "{course_id}") + "  more: { kind: files, root: /data/u/x, layout: \"{course_id}\" }\n",
            "config.yaml:16:30: stores.more.root: `/data/u/x` overlaps `/data/u` of stores.uploads.root; use roots beside each other",
        ),
        (
            files("/data/u", "{course_id}") + "    references: { query: SELECT 1, strip_prefix: /a/ }\n",
            "config.yaml:16:50: stores.uploads.references.strip_prefix: is absolute; write what a relative path starts with, and absolute paths in absolute_roots",
        ),
        (
            objects("http://s3", "campus-media", "{course_id}/x"),
            "config.yaml:16:13: stores.media.layout: `{course_id}/x` does not end with {course_id}; write names, {organization_id} or * for any name, and {course_id} as the last, as in \"{organization_id}/{course_id}\"",
        ),
        (
            objects("s3://campus", "campus-media", "{course_id}"),
            "config.yaml:14:10: stores.media.url: begins with `s3://`; write http:// or https://",
        ),
        (
            objects("http://s3", "Campus/media", "{course_id}"),
            "config.yaml:15:13: stores.media.bucket: `Campus/media` is no bucket's name; use a to z, 0 to 9, hyphens and dots, 3 to 63",
        ),
        (
            objects("http://s3", "media", "{course_id}")
                + "  more: { kind: objects, url: http://S3, bucket: media, layout: \"x/{course_id}\" }\n",
            "config.yaml:17:50: stores.more.bucket: `media` is claimed by stores.media.bucket already; keep one of them",
        ),
        (
            objects("http://s3", "media", "{course_id}") + "    access_key_file: Cargo.toml\n",
            "config.yaml:17:22: stores.media.access_key_file: cannot read /nowhere/Cargo.toml: No such file or directory (os error 2); name a file that can be read",
        ),
        (
            least("quarantine: { folder: /copies, bucket: { url: http://s3, bucket: archives } }\n"),
            "config.yaml:12:40: quarantine.bucket: is given, and so is quarantine.folder; copies lie in one of them",
        ),
    ];
    for (text, expected) in cases {
        let found = problems(&text, &[]);
        assert_eq!(found.join("\n"), expected, "in:\n{text}");
    }
}

#[test]
fn all_problems_are_reported_together_in_the_files_order() {
    let text = least("grace: { departed: soon, strangers: 1d }\nlimits: { refuse_drop: 20 }\n")
        .replace("kind: redis", "kind: redis\n    bach: 1");
    let lines = problems(&text, &[("COURSE_GC_LOG_LEVLE", "info")]);
    insta::assert_snapshot!(lines.join("\n"), @r"
    config.yaml:9:5: stores.cache.bach: is no known field; did you mean `batch`?
    config.yaml:13:20: grace.departed: `soon` is no duration; write a number and a unit, as in 10s, 15m, 24h or 7d
    config.yaml:13:26: grace.strangers: is no known field; did you mean `stranger`?
    config.yaml:14:24: limits.refuse_drop: `20` is no percentage; write a whole number, 0% to 100%
    COURSE_GC_LOG_LEVLE: names no field; did you mean COURSE_GC_LOG_LEVEL?
    ");
}

#[test]
fn a_file_that_cannot_be_read_says_which() {
    let errors = load(Path::new("/nowhere/config.yaml"), []).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "/nowhere/config.yaml: cannot be read: No such file or directory (os error 2); \
         give the path of a file like that of `course-gc config example`"
    );
}

#[test]
fn deep_nesting_is_refused() {
    for text in ["[".repeat(300), "- ".repeat(50_000), "a: ".repeat(100), "? ".repeat(50_000)] {
        assert!(!problems(&text, &[]).is_empty());
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = read(&text, &[]);
    }

    #[test]
    fn no_mix_of_yaml_and_fields_panics(parts in prop::collection::vec(prop::sample::select(vec![
        "installation", "stores", "liveness", "cache", "kind", "redis", "url", "templates", ": ", ":\n", "\n",
        "  ", "    ", "- ", "{", "}", "[", "]", ", ", "\"", "'", "*", "&", "!", "|\n", "~", "#", "%", "? ", "---\n",
        "0", "{course_id}", "grace", "1h", "limits", "50%", "é", "\t",
    ]), 0..60)) {
        let environment = [("COURSE_GC_STORES_CACHE_TEMPLATES_0", "a:{course_id}"), ("COURSE_GC_GRACE_DEPARTED", "2h")];
        let _ = read(&parts.concat(), &environment);
    }

    #[test]
    fn no_damaged_configuration_panics(at in 0..LEAST.len(), length in 0..20usize, put in "\\PC{0,5}") {
        let mut text: Vec<u8> = LEAST.into();
        text.splice(at..(at + length).min(LEAST.len()), put.bytes());
        let _ = read(&String::from_utf8_lossy(&text), &[("COURSE_GC_STORES_CACHE_URL", "redis://:hunter2@a")]);
    }

    #[test]
    fn sizes_and_durations_are_read_as_they_are_shown(number in any::<u64>(), millis in 0..1_000_000_000_000u64) {
        use super::scalar::Scalar;
        let size = ByteSize::parse(&format!("{number}B")).unwrap();
        prop_assert_eq!(ByteSize::parse(&size.show()), Ok(size));
        let duration = Duration::from_millis(millis);
        prop_assert_eq!(Duration::parse(&duration.show()), Ok(duration));
    }
}

#[tokio::test]
async fn a_key_s_id_and_the_key_come_together() {
    let text = least(
        "  media:\n    kind: objects\n    url: http://s3\n    bucket: media\n    layout: \"{course_id}\"\n\
         quarantine: { bucket: { url: http://s3, bucket: archives } }\n",
    );
    for path in ["STORES_MEDIA", "QUARANTINE_BUCKET"] {
        let [id, key] = ["ACCESS_KEY", "SECRET_KEY"].map(|name| format!("COURSE_GC_{path}_{name}"));
        let refusal = problems(&text, &[(&id, "hunter2")]).join("\n");
        assert!(refusal.contains("access_key: is given without secret_key; give both"), "{refusal}");
        let refusal = problems(&text, &[(&key, "hunter2")]).join("\n");
        assert!(refusal.contains("secret_key: is given without access_key; give both"), "{refusal}");
        assert!(!refusal.contains("hunter2"), "{refusal}");
        let loaded = read(&text, &[(&id, "an-id"), (&key, "hunter2")]).unwrap();
        assert!(crate::app::collector(&loaded.config).is_ok());
        assert!(!check_report(&loaded).contains("hunter2"));
    }
}

#[test]
fn s10_a_database_is_one_liveness_source() {
    let second = |name: &str, url: &str| {
        LEAST.replace("stores:", &format!("  {name}:\n    url: {url}\n    query: SELECT id FROM public.other\nstores:"))
    };
    let refusal = read(&second("other", "postgres://else@DB:5432/campus"), &[]).unwrap_err().to_string();
    assert!(refusal.contains("liveness.other: is the database of liveness.campus, too"), "{refusal}");
    let refusal = read(&second("union", "postgres://gc@db/other"), &[]).unwrap_err().to_string();
    assert!(refusal.contains("liveness.union: is what all sources together are called"), "{refusal}");
    assert!(read(&second("other", "postgres://gc@db/other"), &[]).is_ok());
}

#[tokio::test]
async fn certificates_of_an_authority_go_with_tls() {
    let with = |url: &str, more: &str| least(more).replace("redis://cache:6379/0", url);
    let ca = "    ca: /etc/redis/ca.pem\n";
    let loaded = read(&with("rediss://cache:6379/0", ca), &[]).unwrap();
    let unread = crate::app::collector(&loaded.config).err().unwrap();
    assert!(crate::errors::chain(&unread).contains("has no certificates in /etc/redis/ca.pem"), "{unread:?}");
    for (url, more, expected) in [
        (
            "redis://cache:6379/0",
            ca,
            "stores.cache.url: begins with `redis://`, without TLS, and ca is given; write rediss://",
        ),
        (
            "rediss://cache:6379/0",
            "    ca: ca.pem\n",
            "stores.cache.ca: `ca.pem` is not absolute; write the whole path",
        ),
        (
            "rediss://cache:6379/0",
            "    ca: /etc/redis/ca.pem\n    restore_url: redis://restorer@cache/0\n",
            "stores.cache.restore_url: begins with `redis://`, without TLS, and ca is given; write rediss://",
        ),
    ] {
        let refusal = problems(&with(url, more), &[]).join("\n");
        assert!(refusal.contains(expected), "{refusal}");
    }
}

#[test]
fn a_cluster_and_sentinels_are_two_things() {
    let two = "    nodes: [redis-1:6379]\n    sentinels: [redis://sentinel:26379]\n";
    let refusal = problems(&least(two), &[]).join("\n");
    assert!(refusal.contains("stores.cache.sentinels: are given, and so are nodes"), "{refusal}");
    for node in ["redis-1", "redis-1:0", "redis-1:70000", ":6379", "redis://redis-1:6379", "gc:hunter2@redis-1:6379"] {
        let refusal = problems(&least(&format!("    nodes: [\"{node}\"]\n")), &[]).join("\n");
        assert!(refusal.contains("is no address of a node; write its host and port"), "{refusal}");
    }
    let numbered = least("    nodes: [redis-1:6379]\n").replace("6379/0", "6379/3");
    let refusal = problems(&numbered, &[]).join("\n");
    assert!(refusal.contains("a cluster has one only"), "{refusal}");
    let refusal = problems(&least("    sentinels: [http://sentinel:26379]\n"), &[]).join("\n");
    assert!(refusal.contains("stores.cache.sentinels[0]: begins with `http://`"), "{refusal}");
    let (ours, password) = ("COURSE_GC_STORES_CACHE_SENTINELS_0", "redis://:hunter2@sentinel:26379");
    assert!(read(LEAST, &[(ours, password)]).is_ok());
    assert!(problems(&least(&format!("    sentinels: [\"{password}\"]\n")), &[])[0].contains("holds a password"));
}

#[test]
fn queues_in_a_cluster_need_a_hash_tag() {
    let queues = |prefix: &str| {
        let store =
            "  jobs:\n    kind: bullmq\n    url: redis://cache:6379\n    queues: [a]\n    nodes: [redis-1:6379]\n";
        least(&format!("{store}    prefix: \"{prefix}\"\n"))
    };
    assert!(read(&queues("{bull}"), &[]).is_ok());
    for prefix in ["bull", "bull{}", "{bull", "}bull{"] {
        let refusal = problems(&queues(prefix), &[]).join("\n");
        assert!(refusal.contains("stores.jobs.prefix") && refusal.contains("has no hash tag"), "{refusal}");
    }
}
