//! Claims about the configuration as a whole: text and variables in, values or messages out.

use std::path::Path;
use std::time::Duration;

use chrono_tz::Europe::Berlin;
use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::read::{FieldDoc, Shape, keys};
use super::*;
use crate::domain::ids::IdType;

mod environment;
mod example;
mod refused;
mod schema;

/// The least that a configuration needs; the tests change or add lines.
const LEAST: &str = "\
installation: campus
liveness:
  campus:
    url: postgres://gc@db/campus
    query: SELECT id FROM public.courses
stores:
  cache:
    kind: redis
    url: redis://cache:6379/0
    templates:
      - cache:{course_id}:*
";

fn read(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
    let environment = environment.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    parse(text, "config.yaml".to_owned(), PathBuf::from("/nowhere"), environment)
}

/// The lines of what is wrong.
fn problems(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
    read(text, environment).expect_err("is refused").lines().collect()
}

/// `LEAST` with further lines.
fn least(more: &str) -> String {
    format!("{LEAST}{more}")
}

fn redis(config: &Config) -> &RedisStore {
    match config.stores.get("cache") {
        Some(StoreConfig::Redis(store)) => store,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_least_configuration_has_the_documented_defaults() {
    let config = read(LEAST, &[]).unwrap().config;
    assert_eq!(config.course_id, IdType::Uuid);
    assert_eq!((config.schedule.cron.as_str(), config.schedule.timezone), ("*/15 * * * *", chrono_tz::UTC));
    assert_eq!(config.ledger_url().expose(), "postgres://gc@db/campus");
    let hour = Duration::from_secs(3600);
    assert_eq!((config.grace.departed, config.grace.stranger), (24 * hour, 7 * 24 * hour));
    let limits = &config.limits;
    assert_eq!((limits.refuse_below, limits.refuse_drop.get()), (1, 20));
    assert_eq!((limits.breaker_share.get(), limits.breaker_share_strangers.get()), (30, 10));
    assert_eq!((limits.breaker_courses, limits.breaker_bytes.get()), (1000, 50_000_000_000));
    assert_eq!(limits.cap_courses, None);
    assert_eq!((limits.confirmation, limits.call_timeout), (hour / 720, hour / 360));
    assert_eq!(limits.lock_timeout, crate::postgres::IDLE_TIMEOUT);
    assert!(limits.i_accept.is_empty());
    let store = redis(&config);
    assert_eq!((store.scan_count, store.batch), (100, 1000));
    assert!(!store.templates[0].exclusive);
    assert_eq!((store.pace.calls_per_second, store.pace.in_flight, store.pace.slow_down_over), (None, 16, 2.0));
    assert_eq!(store.pace.longest_rest, Duration::from_secs(1));
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:9090");
    assert_eq!((config.log.format, config.log.level), (LogFormat::Text, tracing::Level::INFO));
}

#[test]
fn every_form_of_a_value_is_read() {
    let text = "\
installation: campus-2
course_id: integer
schedule: { cron: '0 30 2 * * *', timezone: Europe/Berlin }
ledger: { url: postgres://gc@other/ledger }
liveness:
  one: { url: postgresql://gc@db/one, query: SELECT 1, i_accept: [foreign_tables, function_settings] }
  two: { url: postgres://gc@db/two, query: SELECT 2 }
grace: { departed: 10s, stranger: 1h 30m }
limits:
  refuse_drop: 51 %
  breaker_share: 100%
  breaker_bytes: 5 MiB
  cap_courses: 7
  i_accept: [short_grace, large_drop, large_share]
stores:
  vectors:
    kind: qdrant
    url: https://qdrant:6334
    collections: [plain, { name: 1e3, key: courseId, exclusive: true }]
  uploads:
    kind: files
    root: /data/uploads/
    layout: '{course_id}'
    references: { query: SELECT 3, absolute_roots: [/old/uploads] }
";
    let config = read(text, &[]).unwrap().config;
    assert_eq!(config.course_id, IdType::Integer);
    assert_eq!(config.schedule.timezone, Berlin);
    let noon = chrono::DateTime::UNIX_EPOCH + chrono::TimeDelta::hours(12);
    let night = crate::schedule::Due::At(noon + chrono::TimeDelta::minutes(13 * 60 + 30));
    assert_eq!(crate::schedule::due(&config.schedule(), Some(noon), noon), night);
    assert_eq!(config.ledger_url().redacted(), "postgres://gc@other/ledger");
    assert_eq!(config.liveness.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["one", "two"]);
    let accepted = [LivenessAccept::ForeignTables, LivenessAccept::FunctionSettings];
    assert_eq!(config.liveness.first().1.i_accept, accepted);
    assert_eq!(config.grace.stranger, Duration::from_secs(5400));
    assert_eq!(config.limits.breaker_bytes.get(), 5 << 20);
    assert_eq!(config.limits.cap_courses, Some(7));
    let Some(StoreConfig::Qdrant(vectors)) = config.stores.get("vectors") else { panic!() };
    let names: Vec<_> = vectors.collections.iter().map(|c| (c.name.as_str(), c.key.as_str(), c.exclusive)).collect();
    assert_eq!(names, [("plain", "course_id", false), ("1e3", "courseId", true)]);
    let Some(StoreConfig::Files(uploads)) = config.stores.get("uploads") else { panic!() };
    let references = uploads.references.as_ref().unwrap();
    assert_eq!(references.absolute_roots, [PathBuf::from("/old/uploads")]);
    assert_eq!(references.strip_prefix, None);
}
