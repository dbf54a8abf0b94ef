//! What the types cannot say: ranges, shapes of text, and fields that must fit each other.

use std::fmt::Display;
use std::path::{Component, Path};
use std::time::Duration;

use secrecy::ExposeSecret;

use super::model::{
    Api, BullmqStore, Config, FilesStore, Grace, Limits, ObjectsStore, PaceConfig, QdrantStore, Quarantine, RedisStore,
    References, StoreConfig, TableStore,
};
use super::named::Named;
use super::read::Reader;
use super::scalar::{LimitAccept, Scalar};
use super::secret::SecretUrl;
use crate::quarantine::Key;
use crate::stores::pattern::matches;

const HOUR: Duration = Duration::from_secs(3600);

/// Folders of the system: neither they nor what is beneath them holds uploads.
const SYSTEM: [&str; 11] =
    ["/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr"];

/// Folders that hold those of many programs: only something beneath them can be a root.
const SHARED: [&str; 12] =
    ["/", "/home", "/media", "/mnt", "/opt", "/root", "/srv", "/tmp", "/var", "/var/cache", "/var/lib", "/var/log"];

/// A caller that waits hears from us before its connection, on which nothing comes, is closed.
const LONGEST_WAIT: Duration = Duration::from_secs(50);

/// A server may close a connection on which nothing comes for longer.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// A shorter secret could be guessed by whoever has seen a token that it signed.
const LEAST_SECRET: usize = 32;

const COURSE_ID: &str = "{course_id}";

/// Where copies lie if nothing else is said: the default of `quarantine.folder`.
const FOLDER: &str = "/var/lib/course-gc/quarantine";

/// Records what is wrong with a configuration whose every value could be read.
pub(super) fn check(config: &Config, reader: &mut Reader) {
    let mut check = Check { reader };
    check.installation(&config.installation);
    check.liveness(config);
    if let Some(url) = &config.ledger.url {
        check.scheme("ledger.url", url, &["postgres", "postgresql"]);
    }
    check.limits(&config.limits);
    check.grace(&config.grace, &config.limits);
    check.quarantine(&config.quarantine, &config.limits);
    if let Some(tls) = &config.http.tls {
        check.absolute("http.tls.certificate_file", &tls.certificate_file);
        check.absolute("http.tls.key_file", &tls.key_file);
    }
    if let Some(api) = &config.api {
        check.api(api);
        check.live_cleanups(api, &config.stores);
    }
    let mut places = Vec::new();
    for (name, store) in config.stores.iter() {
        let path = format!("stores.{name}");
        check.pace(&format!("{path}.pace"), store.pace());
        match store {
            StoreConfig::Qdrant(store) => check.qdrant(&path, store, &mut places),
            StoreConfig::Redis(store) => check.redis(&path, store, &mut places),
            StoreConfig::Bullmq(store) => check.bullmq(&path, store, &mut places),
            StoreConfig::Files(store) => check.files(&path, store, &mut places),
            StoreConfig::Objects(store) => check.objects(&path, store, &mut places),
            StoreConfig::Table(store) => check.table(&path, store, &mut places),
        }
    }
    check.overlaps(&places);
    if let Some(url) = &config.log.traces_url {
        check.scheme("log.traces_url", url, &["https", "http"]);
    }
}

/// What a source of a store claims as its own.
enum Claim<'a> {
    /// A template or a bucket at an endpoint.
    Name(String, &'a str),
    /// A collection or several of a pattern at an endpoint. Within one store, a name goes before a pattern.
    Collection { store: String, at: String, name: &'a str },
    /// A directory with all that is beneath it.
    Root(&'a Path),
}

struct Place<'a> {
    path: String,
    claim: Claim<'a>,
}

/// How a store reaches its Redis.
struct RedisServer<'a> {
    url: &'a SecretUrl,
    restore_url: Option<&'a SecretUrl>,
    nodes: &'a [String],
    sentinels: &'a [SecretUrl],
    ca: Option<&'a Path>,
}

struct Check<'a> {
    reader: &'a mut Reader,
}

impl Check<'_> {
    fn refuse(&mut self, path: &str, message: impl Into<String>) {
        let origin = self.reader.origin_of(path);
        self.reader.problem(&origin, path, message);
    }

    fn absolute(&mut self, path: &str, file: &Path) {
        if !file.is_absolute() {
            self.refuse(path, format!("`{}` is not absolute; write the file's whole path", file.display()));
        }
    }

    fn range<T: PartialOrd + Display>(&mut self, path: &str, value: T, least: T, most: T) {
        if value < least || value > most {
            self.refuse(path, format!("{value} is out of range; write {least} to {most}"));
        }
    }

    fn duration(&mut self, path: &str, value: Duration, least: Duration, most: Duration) {
        if value < least || value > most {
            let [value, least, most] = [value, least, most].map(|duration| duration.show());
            self.refuse(path, format!("{value} is out of range; write {least} to {most}"));
        }
    }

    fn scheme(&mut self, path: &str, url: &SecretUrl, schemes: &[&str]) {
        if !schemes.contains(&url.scheme()) {
            let right = schemes.join(":// or ");
            self.refuse(path, format!("begins with `{}://`; write {right}://", url.scheme()));
        }
    }

    fn liveness(&mut self, config: &Config) {
        let mut databases: Vec<(String, &str)> = Vec::new();
        for (name, source) in config.liveness.iter() {
            let path = format!("liveness.{name}");
            if name == "union" {
                self.refuse(&path, "is what all sources together are called in reports; use another name");
            }
            self.scheme(&format!("{path}.url"), &source.url, &["postgres", "postgresql"]);
            if let Some(tombstones) = &source.tombstones
                && let Err(message) = table_fits(&tombstones.table)
            {
                self.refuse(&format!("{path}.tombstones.table"), message);
            }
            // Each source is locked by a session of its own, and a database has one lock for all of them.
            let database = source.url.place(5432, "");
            match databases.iter().find(|(other, _)| *other == database) {
                Some((_, other)) => {
                    let message =
                        format!("is the database of liveness.{other}, too; ask it once, by a query with UNION ALL");
                    self.refuse(&path, message);
                }
                None => databases.push((database, name)),
            }
        }
    }

    fn installation(&mut self, name: &str) {
        let fits = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !fits || name.len() > 40 {
            let message = format!("`{name}` is no installation's name; use a to z, 0 to 9 and hyphens, at most 40");
            self.refuse("installation", message);
        }
    }

    fn limits(&mut self, limits: &Limits) {
        let accepts = |risk| limits.i_accept.contains(&risk);
        let (large_drop, large_share) = (accepts(LimitAccept::LargeDrop), accepts(LimitAccept::LargeShare));
        if limits.refuse_below == 0 {
            self.refuse("limits.refuse_below", "0 would take an empty database for dead courses; write at least 1");
        }
        if limits.refuse_drop.get() > 50 && !large_drop {
            let message =
                format!("{} is above 50%; lower it, or add large_drop to limits.i_accept", limits.refuse_drop);
            self.refuse("limits.refuse_drop", message);
        }
        for (path, share) in [
            ("limits.breaker_share", limits.breaker_share),
            ("limits.breaker_share_strangers", limits.breaker_share_strangers),
        ] {
            if share.get() > 50 && !large_share {
                let message = format!("{share} is above 50%; lower it, or add large_share to limits.i_accept");
                self.refuse(path, message);
            }
        }
        for (path, value) in [
            ("limits.breaker_courses", Some(limits.breaker_courses)),
            ("limits.breaker_bytes", Some(limits.breaker_bytes.get())),
            ("limits.cap_courses", limits.cap_courses),
        ] {
            if value == Some(0) {
                self.refuse(path, "0 would hold everything; write at least 1");
            }
        }
        let (second, half_minute) = (Duration::from_secs(1), Duration::from_secs(30));
        self.duration("limits.confirmation", limits.confirmation, second, half_minute);
        self.duration("limits.call_timeout", limits.call_timeout, second / 10, 10 * half_minute);
    }

    fn grace(&mut self, grace: &Grace, limits: &Limits) {
        let short = limits.i_accept.contains(&LimitAccept::ShortGrace);
        for (path, value, floor) in [
            ("grace.tombstoned", grace.tombstoned, HOUR / 60),
            ("grace.departed", grace.departed, HOUR),
            ("grace.stranger", grace.stranger, 24 * HOUR),
        ] {
            if value < floor && !short {
                let [value, floor] = [value, floor].map(|duration| duration.show());
                let message =
                    format!("{value} is below the floor of {floor}; raise it, or add short_grace to limits.i_accept");
                self.refuse(path, message);
            }
        }
    }

    fn quarantine(&mut self, quarantine: &Quarantine, limits: &Limits) {
        let (day, keep) = (24 * HOUR, quarantine.keep);
        if keep < day && !limits.i_accept.contains(&LimitAccept::ShortQuarantine) {
            let [keep, day] = [keep, day].map(|duration| duration.show());
            let message =
                format!("{keep} is below the floor of {day}; raise it, or add short_quarantine to limits.i_accept");
            self.refuse("quarantine.keep", message);
        }
        if keep > 3650 * day {
            self.refuse("quarantine.keep", format!("{} is out of range; write at most 3650d", keep.show()));
        }
        let folder = &quarantine.folder;
        let climbs = folder.components().any(|component| component == Component::ParentDir);
        if !folder.is_absolute() || climbs || folder.components().count() < 2 {
            let shown = folder.display();
            let message = format!("`{shown}` is no folder of its own; write its whole path, without `..`");
            self.refuse("quarantine.folder", message);
        }
        if let Some(bucket) = &quarantine.bucket {
            let keys = [bucket.access_key.is_some(), bucket.secret_key.is_some()];
            self.bucket("quarantine.bucket", (&bucket.url, &bucket.bucket), keys);
            if *folder != Path::new(FOLDER) {
                let message = "is given, and so is quarantine.folder; copies lie in one of them";
                self.refuse("quarantine.bucket", message);
            }
        }
        if let Some(Err(why)) = quarantine.key.as_ref().map(Key::parse) {
            self.refuse("quarantine.key", why);
        }
    }

    fn live_cleanups(&mut self, api: &Api, stores: &Named<StoreConfig>) {
        let Some(per_hour) = api.live_cleanups_per_hour else { return };
        self.range("api.live_cleanups_per_hour", per_hour, 1, 1000);
        for (name, _) in stores.iter().filter(|(_, store)| !store.quarantine()) {
            let message = "is false, and api.live_cleanups_per_hour lets what live courses have be deleted, of which a copy is \
                           always kept; leave out one of the two";
            self.refuse(&format!("stores.{name}.quarantine"), message);
        }
    }

    fn api(&mut self, api: &Api) {
        let second = Duration::from_secs(1);
        self.duration("api.wait", api.wait, second, LONGEST_WAIT);
        self.range("api.requests_per_minute", api.requests_per_minute, 1, 1_000_000);
        if api.tokens.is_none() && api.jwt.is_none() {
            self.refuse("api", "lets nobody in; give tokens, jwt or both");
        }
        for (name, token) in api.tokens.iter().flat_map(Named::iter) {
            let path = format!("api.tokens.{name}");
            self.absolute(&format!("{path}.file"), &token.file);
            if token.scopes.is_empty() {
                self.refuse(
                    &format!("{path}.scopes"),
                    "is empty, which is good for nothing; name read, cleanup or admin",
                );
            }
        }
        let Some(jwt) = &api.jwt else { return };
        let keys = [jwt.secret.is_some(), jwt.jwks_file.is_some(), jwt.jwks_url.is_some()];
        if keys.into_iter().filter(|given| *given).count() != 1 {
            self.refuse("api.jwt", "needs one key; give one of secret, jwks_file and jwks_url");
        }
        if jwt.secret.as_ref().is_some_and(|secret| secret.expose_secret().len() < LEAST_SECRET) {
            let message = format!("is too short to be safe; use at least {LEAST_SECRET} characters");
            self.refuse("api.jwt.secret", message);
        }
        if let Some(file) = &jwt.jwks_file {
            self.absolute("api.jwt.jwks_file", file);
        }
        if let Some(url) = &jwt.jwks_url {
            self.scheme("api.jwt.jwks_url", url, &["https", "http"]);
        }
        if [&jwt.read_roles, &jwt.cleanup_roles, &jwt.admin_roles].iter().all(|roles| roles.is_empty()) {
            let message = "lets nobody do anything; name roles in read_roles, cleanup_roles or admin_roles";
            self.refuse("api.jwt", message);
        }
    }

    fn pace(&mut self, path: &str, pace: &PaceConfig) {
        if let Some(rate) = pace.calls_per_second {
            self.range(&format!("{path}.calls_per_second"), rate, 1, 100_000);
        }
        self.range(&format!("{path}.in_flight"), pace.in_flight, 2, 256);
        self.range(&format!("{path}.slow_down_over"), pace.slow_down_over, 1.1, 1000.0);
        self.duration(&format!("{path}.longest_rest"), pace.longest_rest, Duration::ZERO, LONGEST_REST);
    }

    fn qdrant<'a>(&mut self, path: &str, store: &'a QdrantStore, places: &mut Vec<Place<'a>>) {
        self.scheme(&format!("{path}.url"), &store.url, &["http", "https"]);
        self.range(&format!("{path}.batch"), store.batch, 1, 10_000);
        if store.collections.is_empty() {
            self.refuse(&format!("{path}.collections"), "is empty; name at least one collection");
        }
        for (index, collection) in store.collections.iter().enumerate() {
            let (of, path) = (path, format!("{path}.collections[{index}]"));
            if let Err(message) = stars_fit(&collection.name) {
                self.refuse(&path, message);
            }
            let claim =
                Claim::Collection { store: of.to_owned(), at: store.url.place(6334, ""), name: &collection.name };
            places.push(Place { path, claim });
        }
    }

    /// What every way to a Redis needs.
    fn redis_server(&mut self, path: &str, server: &RedisServer<'_>) {
        let RedisServer { url, restore_url, nodes, sentinels, ca } = *server;
        let mut urls = vec![(format!("{path}.url"), url)];
        urls.extend(restore_url.map(|url| (format!("{path}.restore_url"), url)));
        urls.extend(sentinels.iter().enumerate().map(|(index, url)| (format!("{path}.sentinels[{index}]"), url)));
        for (path, url) in urls {
            match ca {
                None => self.scheme(&path, url, &["redis", "rediss"]),
                Some(_) if url.scheme() == "redis" => {
                    self.refuse(&path, "begins with `redis://`, without TLS, and ca is given; write rediss://");
                }
                Some(_) => self.scheme(&path, url, &["rediss"]),
            }
        }
        if let Some(ca) = ca.filter(|ca| !ca.is_absolute()) {
            let message = format!("`{}` is not absolute; write the whole path", ca.display());
            self.refuse(&format!("{path}.ca"), message);
        }
        for (index, node) in nodes.iter().enumerate() {
            if !node_fits(node) {
                let message = format!("`{node}` is no address of a node; write its host and port, as in redis-1:6379");
                self.refuse(&format!("{path}.nodes[{index}]"), message);
            }
        }
        if !nodes.is_empty() && !sentinels.is_empty() {
            let message = "are given, and so are nodes; a cluster has no sentinels: keep one of them";
            self.refuse(&format!("{path}.sentinels"), message);
        }
        if !nodes.is_empty() && !url.place(6379, "0").ends_with("/0") {
            let message = "names a database, and nodes are given; a cluster has one only, so write it without a number";
            self.refuse(&format!("{path}.url"), message);
        }
    }

    fn redis<'a>(&mut self, path: &str, store: &'a RedisStore, places: &mut Vec<Place<'a>>) {
        let RedisStore { url, restore_url, nodes, sentinels, ca, .. } = store;
        let (restore_url, ca) = (restore_url.as_ref(), ca.as_deref());
        self.redis_server(path, &RedisServer { url, restore_url, nodes, sentinels, ca });
        self.range(&format!("{path}.batch"), store.batch, 1, 10_000);
        self.range(&format!("{path}.scan_count"), store.scan_count, 1, 100_000);
        if store.templates.is_empty() {
            let message = "is empty; write at least one template, as in \"cache:{course_id}:*\"";
            self.refuse(&format!("{path}.templates"), message);
        }
        for (index, template) in store.templates.iter().enumerate() {
            let path = format!("{path}.templates[{index}]");
            if let Err(message) = template_fits(&template.template) {
                self.refuse(&path, message);
            }
            let claim = Claim::Name(store.url.place(6379, "0"), &template.template);
            places.push(Place { path, claim });
        }
    }

    fn bullmq<'a>(&mut self, path: &str, store: &'a BullmqStore, places: &mut Vec<Place<'a>>) {
        let BullmqStore { url, restore_url, nodes, sentinels, ca, .. } = store;
        let (restore_url, ca) = (restore_url.as_ref(), ca.as_deref());
        self.redis_server(path, &RedisServer { url, restore_url, nodes, sentinels, ca });
        self.range(&format!("{path}.batch"), store.batch, 1, 10_000);
        self.range(&format!("{path}.scan_count"), store.scan_count, 1, 100_000);
        let prefix_path = format!("{path}.prefix");
        if store.prefix.is_empty() || store.prefix.contains('*') {
            let message =
                format!("`{}` is no prefix; write it as the queues' workers have it, as in bull", store.prefix);
            self.refuse(&prefix_path, message);
        }
        let tag = store.prefix.split_once('{').and_then(|(_, rest)| rest.find('}'));
        if !store.nodes.is_empty() && tag.is_none_or(|length| length == 0) {
            let message = format!(
                "`{}` has no hash tag, without which BullMQ does not work in a cluster; write it as in {{bull}}",
                store.prefix
            );
            self.refuse(&prefix_path, message);
        }
        // All queues of a prefix are one store: it has one marker, and a flow may reach through all of them.
        places.push(Place { path: prefix_path, claim: Claim::Name(store.url.place(6379, "0"), &store.prefix) });
        if store.queues.is_empty() {
            self.refuse(&format!("{path}.queues"), "is empty; name at least one queue");
        }
        for (index, queue) in store.queues.iter().enumerate() {
            let path = format!("{path}.queues[{index}]");
            if let Err(message) = queue_fits(&queue.name) {
                self.refuse(&path, message);
            } else if store.queues.iter().take(index).any(|other| other.name == queue.name) {
                self.refuse(&path, format!("`{}` is there already; keep one of them", queue.name));
            }
        }
        if store.job_data.is_empty() && store.job_ids.is_empty() {
            let message = "is empty, as is job_ids; write where the course id is, as in [/courseId]";
            self.refuse(&format!("{path}.job_data"), message);
        }
        for (index, pointer) in store.job_data.iter().enumerate() {
            if !pointer.starts_with('/') {
                let message = format!("`{pointer}` is no JSON pointer; write it with a slash, as in /courseId");
                self.refuse(&format!("{path}.job_data[{index}]"), message);
            }
        }
        for (index, template) in store.job_ids.iter().enumerate() {
            if let Err(message) = template_fits(template) {
                self.refuse(&format!("{path}.job_ids[{index}]"), message);
            }
        }
    }

    fn table<'a>(&mut self, path: &str, store: &'a TableStore, places: &mut Vec<Place<'a>>) {
        self.scheme(&format!("{path}.url"), &store.url, &["postgres", "postgresql"]);
        self.range(&format!("{path}.batch"), store.batch, 1, 10_000);
        if store.tables.is_empty() {
            self.refuse(&format!("{path}.tables"), "is empty; name at least one table, as in public.rag_context_cache");
        }
        for (index, table) in store.tables.iter().enumerate() {
            let path = format!("{path}.tables[{index}]");
            if let Err(message) = table_fits(&table.table) {
                self.refuse(&format!("{path}.table"), message);
            }
            if table.table.starts_with("course_gc.") {
                self.refuse(&format!("{path}.table"), "is in the schema course_gc, which is course-gc's own");
            }
            // Whoever is named by two columns of a row would be asked about by one of them only.
            let claim = Claim::Name(store.url.place(5432, ""), &table.table);
            places.push(Place { path, claim });
        }
    }

    fn files<'a>(&mut self, path: &str, store: &'a FilesStore, places: &mut Vec<Place<'a>>) {
        self.range(&format!("{path}.batch"), store.batch, 1, 10_000);
        let root_path = format!("{path}.root");
        match root_fits(&store.root) {
            Err(message) => self.refuse(&root_path, message),
            Ok(()) => places.push(Place { path: root_path, claim: Claim::Root(&store.root) }),
        }
        if let Err(message) = layout_fits(&store.layout) {
            self.refuse(&format!("{path}.layout"), message);
        }
        if let Some(references) = &store.references {
            self.references(&format!("{path}.references"), references);
        }
    }

    fn objects<'a>(&mut self, path: &str, store: &'a ObjectsStore, places: &mut Vec<Place<'a>>) {
        let keys = [store.access_key.is_some(), store.secret_key.is_some()];
        self.bucket(path, (&store.url, &store.bucket), keys);
        self.range(&format!("{path}.batch"), store.batch, 1, 10_000);
        if let Err(message) = layout_fits(&store.layout) {
            self.refuse(&format!("{path}.layout"), message);
        }
        // The marker and the copies lie in it once, so no two stores can share it.
        let claim = Claim::Name(format!("bucket at {}", store.url.place(443, "")), &store.bucket);
        places.push(Place { path: format!("{path}.bucket"), claim });
    }

    /// What every bucket needs; `keys` says whether the key's id and the key are given.
    fn bucket(&mut self, path: &str, (url, name): (&SecretUrl, &str), keys: [bool; 2]) {
        self.scheme(&format!("{path}.url"), url, &["http", "https"]);
        let fits = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.'));
        if !fits || !(3..=63).contains(&name.len()) {
            let message = format!("`{name}` is no bucket's name; use a to z, 0 to 9, hyphens and dots, 3 to 63");
            self.refuse(&format!("{path}.bucket"), message);
        }
        match keys {
            [true, false] => self.refuse(&format!("{path}.access_key"), "is given without secret_key; give both"),
            [false, true] => self.refuse(&format!("{path}.secret_key"), "is given without access_key; give both"),
            [true, true] | [false, false] => {}
        }
    }

    fn references(&mut self, path: &str, references: &References) {
        if references.strip_prefix.as_ref().is_some_and(|prefix| prefix.starts_with('/')) {
            let message = "is absolute; write what a relative path starts with, and absolute paths in absolute_roots";
            self.refuse(&format!("{path}.strip_prefix"), message);
        }
        for (index, root) in references.absolute_roots.iter().enumerate() {
            if !root.is_absolute() {
                let message =
                    format!("`{}` is not absolute; write the whole path, as in /data/uploads", root.display());
                self.refuse(&format!("{path}.absolute_roots[{index}]"), message);
            }
        }
    }

    fn overlaps(&mut self, places: &[Place<'_>]) {
        for (index, place) in places.iter().enumerate() {
            for earlier in &places[..index] {
                let message = match (&earlier.claim, &place.claim) {
                    (Claim::Name(at, name), Claim::Name(other_at, other)) if at == other_at && name == other => {
                        format!("`{other}` is claimed by {} already; keep one of them", earlier.path)
                    }
                    (
                        Claim::Collection { store, at, name },
                        Claim::Collection { store: other_store, at: other_at, name: other },
                    ) if at == other_at && (name == other || store != other_store && overlap(name, other)) => {
                        format!("`{other}` is claimed by {} already; keep one of them", earlier.path)
                    }
                    (Claim::Root(root), Claim::Root(other)) if root.starts_with(other) || other.starts_with(root) => {
                        let (other, root) = (other.display(), root.display());
                        format!("`{other}` overlaps `{root}` of {}; use roots beside each other", earlier.path)
                    }
                    _ => continue,
                };
                self.refuse(&place.path, message);
            }
        }
    }
}

/// True if one of two patterns matches the other, or all that it matches. What is missed here, the marker of what both match tells.
fn overlap(one: &str, other: &str) -> bool {
    matches(one.as_bytes(), other.as_bytes()) || matches(other.as_bytes(), one.as_bytes())
}

/// Whether a table is named with its schema.
fn table_fits(table: &str) -> Result<(), String> {
    match table.split('.').collect::<Vec<_>>()[..] {
        [schema, name] if !schema.is_empty() && !name.is_empty() && !table.contains('"') => Ok(()),
        _ => Err(format!("`{table}` is no schema and table; write both, without quotes, as in public.courses")),
    }
}

/// Whether a node of a cluster can be where this says.
fn node_fits(node: &str) -> bool {
    let host_and_port = node.rsplit_once(':');
    host_and_port.is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(['/', '@', ' ']) && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

/// Whether a queue can be called so.
fn queue_fits(name: &str) -> Result<(), String> {
    if name.is_empty() || name.contains(':') {
        return Err(format!("`{name}` is no queue's name; write it without its prefix and without colons"));
    }
    stars_fit(name)
}

/// Whether a name with * for any text says no more than that.
fn stars_fit(name: &str) -> Result<(), String> {
    match name.contains("**") {
        true => Err(format!("`{name}` contains **; write * for any text")),
        false => Ok(()),
    }
}

/// Whether a key template names one course and not everything.
fn template_fits(template: &str) -> Result<(), String> {
    match template.matches(COURSE_ID).count() {
        1 => {}
        0 => {
            return Err(format!(
                "`{template}` does not contain {COURSE_ID}; write where the id stands, as in \"cache:{COURSE_ID}:*\""
            ));
        }
        _ => {
            return Err(format!("`{template}` contains {COURSE_ID} more than once; write it once and * elsewhere"));
        }
    }
    if let Some(other) = other_placeholder(template) {
        return Err(format!("`{template}` contains {other}, which means nothing here; write * for any text"));
    }
    if template.contains("**") {
        return Err(format!("`{template}` contains **; write * for any text"));
    }
    if template.replace(COURSE_ID, "").replace('*', "").is_empty() {
        return Err(format!(
            "`{template}` would match any key that holds an id; write the text around it, as in \"cache:{COURSE_ID}\""
        ));
    }
    Ok(())
}

/// Whether a root is a directory of its own.
fn root_fits(root: &Path) -> Result<(), String> {
    let shown = root.display();
    if !root.is_absolute() {
        return Err(format!("`{shown}` is not absolute; write the whole path, as in /data/uploads"));
    }
    if root.components().any(|component| component == Component::ParentDir) {
        return Err(format!("`{shown}` contains `..`; write the path without"));
    }
    let is = |folder: &&str| root.components().eq(Path::new(folder).components());
    if SHARED.iter().any(is) {
        return Err(format!(
            "`{shown}` is not the application's alone; write the folder of its files, as in /data/uploads"
        ));
    }
    if SYSTEM.iter().any(|folder| root.starts_with(folder)) {
        return Err(format!(
            "`{shown}` is a system folder; write the folder of the application's files, as in /data/uploads"
        ));
    }
    Ok(())
}

/// Whether a layout leads to one course's directory.
fn layout_fits(layout: &str) -> Result<(), String> {
    let right = format!(
        "write names, {{organization_id}} or * for any name, and {COURSE_ID} as the last, \
         as in \"{{organization_id}}/{COURSE_ID}\""
    );
    let (above, course) = layout.rsplit_once('/').unwrap_or(("*", layout));
    let wrong = above.split('/').chain([course]).find_map(|component| match component {
        "" => Some("has an empty component"),
        "." | ".." => Some("contains `.` or `..`"),
        "{organization_id}" | "*" | COURSE_ID => None,
        name if name.contains(['{', '}', '*']) => Some("has a component that is neither a name nor one placeholder"),
        _ => None,
    });
    match wrong {
        Some(wrong) => Err(format!("`{layout}` {wrong}; {right}")),
        None if course != COURSE_ID => Err(format!("`{layout}` does not end with {COURSE_ID}; {right}")),
        None if above.split('/').any(|name| name == COURSE_ID) => {
            Err(format!("`{layout}` has {COURSE_ID} more than once; {right}"))
        }
        None => Ok(()),
    }
}

/// A placeholder that is none, such as `{organization_id}` in a key template.
fn other_placeholder(template: &str) -> Option<&str> {
    template.match_indices('{').find_map(|(start, _)| {
        let text = &template[start..];
        let text = &text[..=text.find('}')?];
        let name = &text[1..text.len() - 1];
        let is_name = name.chars().all(|c| c.is_ascii_lowercase() || c == '_') && name.ends_with("_id");
        (is_name && text != COURSE_ID).then_some(text)
    })
}
