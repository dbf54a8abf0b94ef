//! The configuration's sections.
//!
//! Each is declared once: from the declaration come the type, its reading, the names of its
//! environment variables, and the documented example, whose comments are the doc comments here.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono_tz::Tz;
use secrecy::SecretString;
use tracing::Level;

use super::named::Named;
use super::read::{At, FieldDoc, Kind, Reader, Shape, Value};
use super::scalar::{ApiScope, ByteSize, Cron, LimitAccept, LivenessAccept, LogFormat, Percent};
use super::schema::Form;
use super::secret::SecretUrl;
use super::section::{Section, section};
use super::yaml::join;
use crate::domain::ids::IdType;
use crate::schedule::Schedule;

section! {
    /// The whole configuration.
    pub struct Config {
        /// This installation's name: a to z, 0 to 9 and hyphens, at most 40. It names the advisory
        /// lock and marks the stores, so it stays for ever.
        installation: String, example "campus";
        /// What a course id is: uuid, integer, or text: and a regular expression that each id matches from
        /// end to end, as in text:[a-z0-9]{24}. Texts are of letters, digits, - and _, at most 46.
        course_id: IdType = "uuid";
        /// When to run.
        schedule: ScheduleConfig = "{}";
        /// Where this program keeps its own tables, in a schema named course_gc.
        ledger: Ledger = "{}";
        /// The databases that know which courses live, by name. Several are united: what is live in
        /// one is live.
        liveness: Named<LivenessSource>, example "campus";
        /// How long an orphan must have been seen as one before it is swept, by what is known of it.
        grace: Grace = "{}";
        /// What a run may do at most. Beyond it, a run or a source is held until a person approves.
        limits: Limits = "{}";
        /// Where courses leave things, by name. The kind of a store is qdrant, redis, bullmq, files,
        /// objects or table, and decides about its other fields.
        stores: Named<StoreConfig>;
        /// Copies of what was deleted, until they expire.
        quarantine: Quarantine = "{}";
        /// Health, readiness and metrics over HTTP.
        http: Http = "{}";
        /// The API for other programs, at the same address. Default: none.
        api: Option<Api>, mention "";
        /// What is logged.
        log: Log = "{}";
    }
}

impl Config {
    /// When to run: the expression in its zone, with the jitter of this installation.
    pub fn schedule(&self) -> Schedule {
        let ScheduleConfig { cron, timezone, jitter } = &self.schedule;
        cron.in_zone(*timezone).with_jitter(&self.installation, *jitter)
    }

    /// The files that say who vouches for servers.
    pub(super) fn authorities(&self) -> impl Iterator<Item = &Path> {
        self.stores.iter().filter_map(|(_, store)| match store {
            StoreConfig::Redis(store) => store.ca.as_deref(),
            StoreConfig::Bullmq(store) => store.ca.as_deref(),
            _ => None,
        })
    }

    /// The ledger's database: its own, or else the first liveness source's.
    pub fn ledger_url(&self) -> &SecretUrl {
        self.ledger.url.as_ref().unwrap_or(&self.liveness.first().1.url)
    }
}

section! {
    /// When to run.
    pub struct ScheduleConfig {
        /// A cron expression of five fields, or of six with seconds first. A run that was missed is
        /// made up for once, at start; runs never overlap.
        cron: Cron = "*/15 * * * *";
        /// The zone in which the expression is read.
        timezone: Tz = "UTC";
        /// By how much runs begin later than that, so that not all installations begin at once: by a part of this that is another
        /// for each run, and never more than half of the time to the next one.
        jitter: Duration = "0s";
    }
}

section! {
    /// Where the ledger's tables are.
    pub struct Ledger {
        /// A Postgres URL. Default: the first liveness source's.
        url: Option<SecretUrl>, mention "postgres://course_gc@localhost:5432/campus";
    }
}

section! {
    /// One database that knows which courses live.
    pub struct LivenessSource {
        /// A Postgres URL. It must lead to a primary.
        url: SecretUrl, example "postgres://course_gc@localhost:5432/campus";
        /// A query with one column: the id of every live course. Relations are named with their
        /// schema, since the search path is pg_catalog.
        query: String, example "SELECT id FROM public.courses";
        /// Risks that this query may take: foreign_tables, materialized_views, subscribed_tables,
        /// function_settings.
        i_accept: Vec<LivenessAccept> = "[]";
        /// Deaths that a trigger records, so that what is known to be deleted waits less: see
        /// course-gc tombstones install. Default: none.
        tombstones: Option<Tombstones>, mention "";
        /// A query with two columns: a course's id and its organization. Callers of the API that are
        /// bound to an organization may ask for its courses only. Default: none.
        organizations: Option<String>, mention "SELECT id, organization_id FROM public.courses";
    }
}

section! {
    /// Deaths that a trigger records in a liveness source's database.
    pub struct Tombstones {
        /// The table that holds the courses, with its schema. Not a view: a view hears of no deletes.
        table: String, example "public.courses";
        /// Its column with the course's id.
        column: String = "id";
        /// Whether the trigger also notifies, and course-gc serve listens, so that a death is looked at within a
        /// second instead of a quarter of a minute. Install the trigger anew when this changes.
        notify: bool = "false";
    }
}

section! {
    /// How long an orphan must have been seen as one, by evidence.
    pub struct Grace {
        /// For a course whose delete was recorded by a trigger. At least 1m, unless short_grace is
        /// accepted.
        tombstoned: Duration = "15m";
        /// For a course that an earlier run saw live. At least 1h, unless short_grace is accepted.
        departed: Duration = "24h";
        /// For what was never seen live, in sources that are exclusive. At least 24h, unless
        /// short_grace is accepted.
        stranger: Duration = "7d";
    }
}

section! {
    /// What a run may do at most.
    pub struct Limits {
        /// Fewer live courses than this, in one source or in all, halt the run. Never 0: empty is
        /// not dead.
        refuse_below: u64 = "1";
        /// A drop of the number of live courses by more than this from the highest of the last seven
        /// days halts the run.
        refuse_drop: Percent = "20%";
        /// More than this share of a source's courses being orphans holds the source (from ten
        /// orphans up).
        breaker_share: Percent = "30%";
        /// The same, for courses that were never seen live.
        breaker_share_strangers: Percent = "10%";
        /// At most so many courses are swept within 24 hours.
        breaker_courses: u64 = "1000";
        /// At most so many bytes are swept within 24 hours.
        breaker_bytes: ByteSize = "50GB";
        /// At most so many courses are swept in one run; the others wait for the next. Default: no
        /// such cap.
        cap_courses: Option<u64>, mention "500";
        /// How long the answer that a course is dead may be acted upon. At most 30s.
        confirmation: Duration = "5s";
        /// How long one call to a database or a store may take.
        call_timeout: Duration = "10s";
        /// After so long without a sign from a collector that hangs, the databases take its locks away, and
        /// another may go on; of one that ends they know at once. At least 2s.
        lock_timeout: Duration = "30s";
        /// Floors and ceilings that these limits may pass: short_grace, short_quarantine, large_drop,
        /// large_share.
        i_accept: Vec<LimitAccept> = "[]";
    }
}

/// One store, by its kind.
#[derive(Clone, Debug)]
pub enum StoreConfig {
    /// A Qdrant server or cluster.
    Qdrant(QdrantStore),
    /// A Redis server.
    Redis(RedisStore),
    /// BullMQ queues in a Redis server.
    Bullmq(BullmqStore),
    /// A directory tree.
    Files(FilesStore),
    /// A bucket.
    Objects(ObjectsStore),
    /// Tables of a Postgres database.
    Table(TableStore),
}

impl StoreConfig {
    /// The word for its kind: `qdrant`, `redis`, `bullmq`, `files`, `objects` or `table`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Qdrant(_) => "qdrant",
            Self::Redis(_) => "redis",
            Self::Bullmq(_) => "bullmq",
            Self::Files(_) => "files",
            Self::Objects(_) => "objects",
            Self::Table(_) => "table",
        }
    }
}

impl StoreConfig {
    /// Whether what goes from it is copied first.
    pub fn quarantine(&self) -> bool {
        match self {
            Self::Qdrant(store) => store.quarantine,
            Self::Redis(store) => store.quarantine,
            Self::Bullmq(store) => store.quarantine,
            Self::Files(store) => store.quarantine,
            Self::Objects(store) => store.quarantine,
            Self::Table(store) => store.quarantine,
        }
    }

    /// How fast it is called.
    pub fn pace(&self) -> &PaceConfig {
        match self {
            Self::Qdrant(store) => &store.pace,
            Self::Redis(store) => &store.pace,
            Self::Bullmq(store) => &store.pace,
            Self::Files(store) => &store.pace,
            Self::Objects(store) => &store.pace,
            Self::Table(store) => &store.pace,
        }
    }
}

const KIND: FieldDoc = FieldDoc {
    name: "kind",
    doc: &[" What it is: qdrant, redis, bullmq, files, objects or table."],
    optional: false,
    shape: &Shape::Scalar(Form::Text),
    default: None,
    example: None,
    mention: None,
};

impl Value for StoreConfig {
    const SHAPE: Shape = Shape::Kinds(&[
        Kind { name: "qdrant", example: "vectors", fields: QdrantStore::FIELDS },
        Kind { name: "redis", example: "cache", fields: RedisStore::FIELDS },
        Kind { name: "bullmq", example: "jobs", fields: BullmqStore::FIELDS },
        Kind { name: "files", example: "uploads", fields: FilesStore::FIELDS },
        Kind { name: "objects", example: "media", fields: ObjectsStore::FIELDS },
        Kind { name: "table", example: "rows", fields: TableStore::FIELDS },
    ]);

    fn read(at: &At<'_>, reader: &mut Reader) -> Option<Self> {
        reader.record(at, None);
        let kind = at.node.and_then(|node| node.get("kind"));
        let place = At { path: join(&at.path, "kind"), node: kind, file: None, section: at.origin() };
        let kind = String::read(&place, reader)?;
        match kind.as_str() {
            "qdrant" => QdrantStore::read_section(at, reader, &[KIND]).map(Self::Qdrant),
            "redis" => RedisStore::read_section(at, reader, &[KIND]).map(Self::Redis),
            "bullmq" => BullmqStore::read_section(at, reader, &[KIND]).map(Self::Bullmq),
            "files" => FilesStore::read_section(at, reader, &[KIND]).map(Self::Files),
            "objects" => ObjectsStore::read_section(at, reader, &[KIND]).map(Self::Objects),
            "table" => TableStore::read_section(at, reader, &[KIND]).map(Self::Table),
            _ => {
                let message =
                    format!("`{kind}` is no kind of store; possible: qdrant, redis, bullmq, files, objects, table");
                reader.problem(place.origin(), &place.path, message);
                None
            }
        }
    }
}

section! {
    /// How fast a store's server is called, so that whoever else uses it is not held up.
    pub struct PaceConfig {
        /// At most so many calls begin in a second, on average: each page, pipeline or batch of requests is one. Default: no
        /// such limit.
        calls_per_second: Option<u32>, mention "200";
        /// At most so many calls are under way at once. At least 2: one that looks, and one that deletes.
        in_flight: u32 = "16";
        /// When calls take more than so many times as long as the quickest of their kind did, rests follow them, the longer the
        /// slower they are: at twice as much, a call is under way for a tenth of the time. Not of files.
        slow_down_over: f64 = "2";
        /// The longest rest; 0s never slows down.
        longest_rest: Duration = "1s";
    }
}

section! {
    /// Points in a Qdrant server or cluster.
    pub struct QdrantStore {
        /// The address of the gRPC interface.
        url: SecretUrl, example "http://localhost:6334";
        /// The key for it, where it asks for one.
        api_key: Option<SecretString>;
        /// The collections that hold courses' points, by name, with * for any text; only a name is needed.
        collections: Vec<Collection>, example "course_embeddings";
        /// The most ids in one request: a collection's strict mode may allow fewer, and then counts.
        batch: u32 = "256";
        /// Whether what goes from here is copied first; without, it is gone at once and for ever.
        quarantine: bool = "true";
        /// How fast the server is called.
        pace: PaceConfig = "{}";
    }
}

section! {
    /// One collection, or an alias of one, or several of a pattern.
    pub struct Collection (shorthand) {
        /// The collection's name or alias, with * for any text, as in materials-*. A collection that comes to match later is held until
        /// the store is adopted again.
        name: String, example "course_embeddings";
        /// The payload key that holds the course id.
        key: String = "course_id";
        /// Whether only courses of the liveness sources belong here, so that what was never seen live
        /// may be swept too.
        exclusive: bool = "false";
    }
}

section! {
    /// Keys in a Redis server.
    pub struct RedisStore {
        /// The address, with the database's number as its path. Of a Redis Cluster, any node's.
        url: SecretUrl, example "redis://localhost:6379/0";
        /// The shapes of courses' keys: {course_id} once, * for any text; only a template is needed.
        templates: Vec<Template>, example
            "phase1_cache:{course_id}
             file_cache:{course_id}:*
             lesson_md:{course_id}:*
             lesson:uuid:{course_id}:*
             doc_class:v2:{course_id}:*
             generation:lock:{course_id}
             rag:{course_id}:*
             idempotency:generation-{course_id}-*
             idempotency:auto-{course_id}-stage6-lesson-*
             idempotency:worker-fallback-stage*-{course_id}*";
        /// How many keys one step of SCAN looks at, during which the server answers nobody else.
        scan_count: u32 = "100";
        /// The most keys in one pipeline.
        batch: u32 = "1000";
        /// Whether what goes from here is copied first; without, it is gone at once and for ever.
        quarantine: bool = "true";
        /// How fast the server is called.
        pace: PaceConfig = "{}";
        /// The same server for a user who may RESTORE, which the collector's own user need not. Default: url.
        restore_url: Option<SecretUrl>, mention "redis://restorer@localhost:6379/0";
        /// Further nodes of a Redis Cluster, host and port, in case that the one in url is down: any of them tells all masters.
        /// A cluster is known as one without them.
        nodes: Vec<String> = "[]";
        /// Sentinels, by their URLs: they say which server is the primary, and the host in url is the name that they know it by,
        /// as in redis://mymaster/0.
        sentinels: Vec<SecretUrl> = "[]";
        /// A file with the certificates, as PEM, of who vouches for the servers in place of the public authorities. It goes
        /// with a url that begins with rediss://. Default: the public ones.
        ca: Option<PathBuf>, mention "/etc/course-gc/redis-ca.pem";
    }
}

section! {
    /// The shape of a course's keys.
    pub struct Template (shorthand) {
        /// The shape: {course_id} once, * for any text.
        template: String, example "phase1_cache:{course_id}";
        /// Whether only courses of the liveness sources have such keys, so that what was never seen
        /// live may be swept too.
        exclusive: bool = "false";
    }
}

section! {
    /// Jobs in BullMQ queues, of 5.x and 6.x.
    pub struct BullmqStore {
        /// The address of the queues' Redis server, with the database's number as its path. Of a Redis Cluster, any node's.
        url: SecretUrl, example "redis://localhost:6379/0";
        /// What the queues' keys begin with, as their workers have it; in a Redis Cluster with a hash tag, as in {bull}.
        prefix: String = "bull";
        /// The queues that hold courses' jobs, by name, with * for any text; only a name is needed.
        queues: Vec<Queue>, example
            "course-generation
             stage6-lesson-content
             stage7-enrichments
             qdrant-reindex-*";
        /// Where in a job's data the course id is: JSON pointers. A value may be an id, or a list of ids.
        job_data: Vec<String> = "/courseId
             /course_id";
        /// Where in a job's own id the course id is: {course_id} once, * for any text.
        job_ids: Vec<String> = "auto-{course_id}-stage*";
        /// How many keys one step of SCAN looks at, during which the server answers nobody else.
        scan_count: u32 = "100";
        /// The most jobs in one batch.
        batch: u32 = "1000";
        /// Whether what goes from here is copied first; without, it is gone at once and for ever.
        quarantine: bool = "true";
        /// How fast the server is called.
        pace: PaceConfig = "{}";
        /// The same server for a user who may RESTORE, which the collector's own user need not. Default: url.
        restore_url: Option<SecretUrl>, mention "redis://restorer@localhost:6379/0";
        /// Further nodes of a Redis Cluster, host and port, in case that the one in url is down: any of them tells all masters.
        /// A cluster is known as one without them.
        nodes: Vec<String> = "[]";
        /// Sentinels, by their URLs: they say which server is the primary, and the host in url is the name that they know it by,
        /// as in redis://mymaster/0.
        sentinels: Vec<SecretUrl> = "[]";
        /// A file with the certificates, as PEM, of who vouches for the servers in place of the public authorities. It goes
        /// with a url that begins with rediss://. Default: the public ones.
        ca: Option<PathBuf>, mention "/etc/course-gc/redis-ca.pem";
    }
}

section! {
    /// One queue, or several of a pattern.
    pub struct Queue (shorthand) {
        /// The name, with * for any text.
        name: String, example "course-generation";
        /// Whether only courses of the liveness sources have jobs here, so that what was never seen live
        /// may be swept too.
        exclusive: bool = "false";
    }
}

section! {
    /// Courses' directories beneath a root.
    pub struct FilesStore {
        /// The directory that holds them; an absolute path.
        root: PathBuf, example "/data/uploads";
        /// Where a course's directory is beneath the root: names, {organization_id} or * for any name, and
        /// {course_id} as the last.
        layout: String, example "{organization_id}/{course_id}";
        /// Whether only courses of the liveness sources have directories here, so that what was never
        /// seen live may be swept too.
        exclusive: bool = "false";
        /// A query for files that live things depend on, wherever they lie; a directory with one of
        /// them stays.
        references: Option<References>;
        /// The most directories in one batch.
        batch: u32 = "100";
        /// Whether what goes from here is moved into .course-gc/quarantine beneath the root, or gone at once and
        /// for ever.
        quarantine: bool = "true";
        /// How fast the file system is called.
        pace: PaceConfig = "{}";
    }
}

section! {
    /// Courses' objects in a bucket of an S3-compatible service.
    pub struct ObjectsStore {
        /// The address of the service, without the bucket.
        url: SecretUrl, example "https://s3.eu-central-1.amazonaws.com";
        /// The bucket that holds them.
        bucket: String, example "campus-media";
        /// The region that requests are signed for.
        region: String = "us-east-1";
        /// The id of the key that signs them. Default: they are not signed.
        access_key: Option<SecretString>;
        /// The key itself.
        secret_key: Option<SecretString>;
        /// With what the names of a course's objects begin: names, {organization_id} or * for any name, and
        /// {course_id} as the last.
        layout: String, example "{organization_id}/{course_id}";
        /// Whether only courses of the liveness sources have objects here, so that what was never seen
        /// live may be swept too.
        exclusive: bool = "false";
        /// The most objects in one batch.
        batch: u32 = "1000";
        /// Whether what goes from here is copied to .course-gc/quarantine in the bucket first, or gone at once and
        /// for ever.
        quarantine: bool = "true";
        /// How fast the server is called.
        pace: PaceConfig = "{}";
    }
}

section! {
    /// Files that live things depend on.
    pub struct References {
        /// A query with one column of paths, asked of every liveness source.
        query: String, example "SELECT storage_path FROM public.file_catalog";
        /// What a relative path starts with, and what is taken off to lead from the root.
        strip_prefix: Option<String>, example "uploads/";
        /// Other names of the root by which an absolute path may lead into it.
        absolute_roots: Vec<PathBuf> = "[]";
    }
}

section! {
    /// Rows of a Postgres database that name a course without a foreign key.
    pub struct TableStore {
        /// A Postgres URL of a role that may SELECT, DELETE and INSERT. It must lead to a primary.
        url: SecretUrl, example "postgres://course_gc@localhost:5432/campus";
        /// The tables; only a table is needed.
        tables: Vec<Table>, example "public.rag_context_cache";
        /// The most courses in one batch.
        batch: u32 = "100";
        /// Whether what goes from here is copied first; without, it is gone at once and for ever.
        quarantine: bool = "true";
        /// How fast the server is called.
        pace: PaceConfig = "{}";
    }
}

section! {
    /// A table whose rows name courses.
    pub struct Table (shorthand) {
        /// The table with its schema. Not a view or a foreign table.
        table: String, example "public.rag_context_cache";
        /// Its column with the course's id: a uuid, an integer or a text, or an array of them. It should have an
        /// index.
        column: String = "course_id";
        /// An SQL expression that is true of the rows that are meant. Default: all.
        r#where: Option<String>, mention "kind = 'course'";
        /// Whether only courses of the liveness sources have rows here, so that what was never seen live
        /// may be swept too.
        exclusive: bool = "false";
    }
}

section! {
    /// Copies of what was deleted, until they expire: what course-gc restore brings back.
    pub struct Quarantine {
        /// The folder for copies of points, keys and rows; an absolute path that outlives the program. Files keep
        /// theirs beneath their own root.
        folder: PathBuf = "/var/lib/course-gc/quarantine";
        /// A bucket for them, in place of the folder. Default: the folder.
        bucket: Option<ArchiveBucket>, mention "";
        /// How long a copy is kept. At least 1d, unless short_quarantine is accepted.
        keep: Duration = "7d";
        /// The most that the folder may hold. What would need a copy beyond it is not deleted.
        max_size: ByteSize = "10GB";
        /// The least of the folder's disk that must stay free; below it nothing is deleted either.
        min_free: Percent = "10%";
        /// An age identity, as age-keygen writes it, with which the copies in the folder are encrypted.
        key: Option<SecretString>;
    }
}

section! {
    /// A bucket of an S3-compatible service for copies of points and keys.
    pub struct ArchiveBucket {
        /// The address of the service, without the bucket.
        url: SecretUrl, example "https://s3.eu-central-1.amazonaws.com";
        /// The bucket's name; the copies lie beneath .course-gc/archives in it.
        bucket: String, example "campus-archives";
        /// The region that requests are signed for.
        region: String = "us-east-1";
        /// The id of the key that signs them. Default: they are not signed.
        access_key: Option<SecretString>;
        /// The key itself.
        secret_key: Option<SecretString>;
    }
}

section! {
    /// The HTTP interface.
    pub struct Http {
        /// The address and port to listen on.
        listen: SocketAddr = "127.0.0.1:9090";
        /// TLS for all that is answered there, health and metrics as well. Default: none.
        tls: Option<Tls>, mention "";
    }
}

section! {
    /// A certificate. Both files are read anew when they change.
    pub struct Tls {
        /// The file with the certificate, as PEM, and with those between it and the authority that callers trust.
        certificate_file: PathBuf, example "/run/secrets/course-gc-tls/tls.crt";
        /// The file with its key, as PEM, not encrypted.
        key_file: PathBuf, example "/run/secrets/course-gc-tls/tls.key";
    }
}

section! {
    /// The API: the delete path, and what the command line can do. Somebody has to be let in: by tokens, by jwt,
    /// or by both.
    pub struct Api {
        /// How long a caller waits for the end of its cleanup, before it is told that it is promised. At most 50s.
        wait: Duration = "20s";
        /// How many requests a minute each caller may send; those without a valid token share one such number.
        requests_per_minute: u32 = "600";
        /// How many courses an hour may be deleted at once while they are live, by callers who ask for that. Every store
        /// must be quarantined. Default: none, what they ask for waits for the course's row.
        live_cleanups_per_hour: Option<u32>, mention "5";
        /// Who may come with a token, by name. Several at once let a token be replaced without a gap.
        tokens: Option<Named<ApiToken>>, example "web";
        /// The identity provider whose JSON Web Tokens are good. Default: none.
        jwt: Option<Jwt>, mention "";
    }
}

section! {
    /// A token.
    pub struct ApiToken {
        /// The file that holds it, at least 32 characters. It is read anew whenever it changes.
        file: PathBuf, example "/run/secrets/course-gc-web";
        /// What it is good for: read, cleanup, admin.
        scopes: Vec<ApiScope> = "read";
    }
}

section! {
    /// An identity provider, and what its tokens are good for. Its key comes from one of secret, jwks_file and jwks_url.
    pub struct Jwt {
        /// The issuer that a token must name (iss).
        issuer: String, example "https://campus.example/auth/v1";
        /// The audience that a token must name (aud).
        audience: String, example "course-gc";
        /// The secret of tokens signed with HS256, at least 32 characters.
        secret: Option<SecretString>;
        /// A file of public keys (a JSON Web Key Set) for tokens signed with RS256 or ES256. It is read anew when it
        /// changes.
        jwks_file: Option<PathBuf>, mention "/etc/course-gc/jwks.json";
        /// The address of such a set.
        jwks_url: Option<SecretUrl>, mention "https://campus.example/auth/v1/.well-known/jwks.json";
        /// The claim that holds the caller's role, or a list of roles; with a slash at its beginning, a JSON pointer.
        role_claim: String = "role";
        /// The roles that may look, by the claim's value. A role that is named nowhere may do nothing.
        read_roles: Vec<String> = "[]";
        /// The roles that may ask for cleanups.
        cleanup_roles: Vec<String> = "[]";
        /// The roles that may do what a person does at the command line.
        admin_roles: Vec<String> = "[]";
        /// The roles that are bound to no organization, though there is an organization_claim.
        unbound_roles: Vec<String> = "[]";
        /// The claim that binds a caller to one organization; a token without it is refused. Default: callers are
        /// bound to none.
        organization_claim: Option<String>, mention "organization_id";
    }
}

section! {
    /// The log.
    pub struct Log {
        /// text for people, json for programs.
        format: LogFormat = "text";
        /// error, warn, info, debug or trace.
        level: Level = "info";
        /// Where traces of runs go, by OTLP over HTTP. Default: nowhere.
        traces_url: Option<SecretUrl>, mention "http://collector:4318/v1/traces";
    }
}
