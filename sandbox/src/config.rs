//! The configuration of `course-gc` for a campus: what its documented example says, at the sandbox's addresses. A world that is
//! whole has all six stores in it.

use std::net::SocketAddr;

use crate::{
    Addresses, Objects, Resource,
    campus::{IdKind, KEY_TEMPLATES, QUEUES, TABLES, TEXT_IDS, queue_source},
};

/// What differs from one test, or the demo, to the next.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The type of the courses' ids.
    pub ids: IdKind,
    /// The grace of courses that were seen live, as the configuration writes it.
    pub departed: String,
    /// The grace of what was never seen live.
    pub stranger: String,
    /// Whether every source holds only this campus' courses.
    pub exclusive: bool,
    /// The schedule.
    pub cron: String,
    /// Where `serve` listens.
    pub listen: SocketAddr,
    /// The grace of courses whose delete was recorded; with it, tombstones are kept.
    pub tombstoned: Option<String>,
    /// Further lines of `limits`, each `name: value`.
    pub limits: Vec<String>,
    /// Tables whose rows name courses by `course_id`, each with its schema, besides those of a whole world: the store `rows`, if
    /// there are any.
    pub tables: Vec<String>,
    /// Further lines of `quarantine`, each `name: value`.
    pub quarantine: Vec<String>,
    /// Further liveness sources, by name and URL: other platforms that share the stores.
    pub neighbours: Vec<(String, String)>,
    /// Lines of `api`, as they are beneath it; without any, there is no API.
    pub api: Vec<String>,
}

impl Default for Settings {
    /// Graces of one second, and nothing exclusive.
    fn default() -> Self {
        Self {
            ids: IdKind::Uuid,
            departed: "1s".to_owned(),
            stranger: "7d".to_owned(),
            exclusive: false,
            cron: "*/15 * * * *".to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tombstoned: None,
            limits: Vec::new(),
            tables: Vec::new(),
            quarantine: Vec::new(),
            neighbours: Vec::new(),
            api: Vec::new(),
        }
    }
}

const QUERY: &str = "SELECT id FROM public.courses";
const UPLOADS_LAYOUT: &str = "{organization_id}/{course_id}";
const ENRICHMENTS_LAYOUT: &str = "{course_id}";
const MEDIA_LAYOUT: &str = "{course_id}";

/// The text of the configuration file, with no more in it than has to be said. The URLs are not, since they may hold passwords:
/// see [`environment`]. Only the neighbours' are, and that of tables where the world is not whole.
pub fn file(addresses: &Addresses, settings: &Settings) -> String {
    let Settings {
        departed,
        stranger,
        exclusive,
        cron,
        listen,
        limits,
        ids,
        tombstoned,
        neighbours,
        quarantine,
        api,
        ..
    } = settings;
    let course_id = match ids {
        IdKind::Uuid => "uuid".to_owned(),
        IdKind::Integer => "integer".to_owned(),
        IdKind::Text => format!("text:{TEXT_IDS}"),
    };
    let lines = |lines: &[String]| lines.iter().map(|line| format!("  {line}\n")).collect::<String>();
    let (limits, quarantine) = (lines(limits), lines(quarantine));
    let api = if api.is_empty() { String::new() } else { format!("api:\n{}", lines(api)) };
    let (kept, grace) = match tombstoned {
        Some(grace) => ("    tombstones:\n      table: public.courses\n", format!("  tombstoned: {grace}\n")),
        None => ("", String::new()),
    };
    let asked = |(name, url): &(String, String)| format!("  {name}:\n    url: {url}\n    query: {QUERY}\n");
    let neighbours: String = neighbours.iter().map(asked).collect();
    let alias = source("name", &addresses.alias, *exclusive);
    let templates: String = KEY_TEMPLATES.iter().map(|text| source("template", text, *exclusive)).collect();
    let ours = if *exclusive { "    exclusive: true\n" } else { "" };
    let (jobs, media, rows) = (jobs(addresses, settings), media(addresses, ours), rows(addresses, settings));
    let files = addresses.files.display();
    format!(
        "# The databases', stores' and buckets' URLs and keys are secrets: they come from the environment.
installation: campus
course_id: {course_id}
schedule:
  cron: \"{cron}\"

# Who is live: asked before anything is judged, and again before anything goes.
liveness:
  campus:
    query: {QUERY}
{kept}{neighbours}
# How long a course must have been gone. This is much shorter than is wise, which has to be accepted.
grace:
{grace}  departed: {departed}
  stranger: {stranger}
limits:
  i_accept: [short_grace, short_quarantine]
{limits}
stores:
  # Points, whose payload names the course as course_id.
  vectors:
    kind: qdrant
    collections:
{alias}  # Keys that have one of these shapes.
  cache:
    kind: redis
    templates:
{templates}{jobs}  # Folders. A file to which a row still leads stays.
  uploads:
    kind: files
    root: {files}/uploads
    layout: \"{UPLOADS_LAYOUT}\"
{ours}    references:
      query: SELECT storage_path FROM public.file_catalog
      strip_prefix: uploads/
  enrichments:
    kind: files
    root: {files}/enrichments
    layout: \"{ENRICHMENTS_LAYOUT}\"
{ours}{media}{rows}
# Where copies of what goes are kept, until they expire.
quarantine:
  folder: {files}/.course-gc/archives
  min_free: 0%
{quarantine}
http:
  listen: {listen}
{api}"
    )
}

/// A line of a list of sources.
fn source(field: &str, name: &str, exclusive: bool) -> String {
    match exclusive {
        true => format!("      - {{ {field}: \"{name}\", exclusive: true }}\n"),
        false => format!("      - \"{name}\"\n"),
    }
}

/// The store of jobs, if the world is whole.
fn jobs(addresses: &Addresses, settings: &Settings) -> String {
    if addresses.objects.is_none() {
        return String::new();
    }
    let queues: String = QUEUES.iter().map(|name| source("name", name, settings.exclusive)).collect();
    format!(
        "  # BullMQ's jobs: courseId or course_id in their data says whose they are, or an id like auto-{{course_id}}-stage4.
  jobs:
    kind: bullmq
    queues:
{queues}"
    )
}

/// The store of objects, if the world is whole.
fn media(addresses: &Addresses, ours: &str) -> String {
    if addresses.objects.is_none() {
        return String::new();
    }
    let bucket = Objects::BUCKET;
    format!(
        "  # Objects whose names begin with a course's id.
  media:
    kind: objects
    bucket: {bucket}
    layout: \"{MEDIA_LAYOUT}\"
{ours}"
    )
}

/// The store of rows: of a whole world, and of what the settings name besides.
fn rows(addresses: &Addresses, settings: &Settings) -> String {
    let exclusive = if settings.exclusive { ", exclusive: true" } else { "" };
    let further = settings.tables.iter().map(|name| (name.as_str(), "course_id"));
    let own = TABLES.iter().filter(|_| addresses.objects.is_some()).map(|table| (table.name, table.column));
    let tables: String = own
        .chain(further)
        .map(|(name, column)| format!("      - {{ table: {name}, column: {column}{exclusive} }}\n"))
        .collect();
    let url = match addresses.objects {
        Some(_) => String::new(),
        None => format!("    url: {}\n", addresses.postgres),
    };
    match tables.as_str() {
        "" => String::new(),
        tables => format!(
            "  # Rows that no foreign key ties to their course.
  rows:
    kind: table
{url}    tables:
{tables}"
        ),
    }
}

/// The store of [`file()`] in which a resource lies, and the source that claims it, if one does.
pub fn place(addresses: &Addresses, resource: &Resource) -> (&'static str, Option<String>) {
    match resource {
        Resource::Point(_) => ("vectors", Some(addresses.alias.clone())),
        Resource::File(path) => match path.split_once('/') {
            Some(("uploads", below)) => ("uploads", below.contains('/').then(|| UPLOADS_LAYOUT.to_owned())),
            below => ("enrichments", below.filter(|(_, it)| it.contains('/')).map(|_| ENRICHMENTS_LAYOUT.to_owned())),
        },
        Resource::Job { queue, .. } => ("jobs", queue_source(queue).map(ToOwned::to_owned)),
        Resource::Row { table, .. } => ("rows", Some((*table).to_owned())),
        Resource::Object(name) => ("media", name.contains('/').then(|| MEDIA_LAYOUT.to_owned())),
        Resource::Key(name) => {
            let name = String::from_utf8_lossy(name);
            ("cache", KEY_TEMPLATES.iter().find(|template| has_shape(&name, template)).map(ToString::to_string))
        }
    }
}

/// Whether a name is written as a template says, whatever stands for the id.
fn has_shape(name: &str, template: &str) -> bool {
    let template = template.replace("{course_id}", "*");
    let mut literals: Vec<&str> = template.split('*').collect();
    let (first, last) = (literals.remove(0), literals.pop().unwrap_or_default());
    let Some(mut rest) = name.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else { return false };
    literals.into_iter().all(|literal| match rest.split_once(literal) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

/// The variables that go with [`file()`]: the stores' URLs and keys.
pub fn environment(addresses: &Addresses) -> Vec<(String, String)> {
    let mut variables = vec![
        ("COURSE_GC_LIVENESS_CAMPUS_URL".to_owned(), addresses.postgres.clone()),
        ("COURSE_GC_STORES_VECTORS_URL".to_owned(), addresses.qdrant.clone()),
        ("COURSE_GC_STORES_CACHE_URL".to_owned(), addresses.redis.clone()),
    ];
    if let Some(objects) = &addresses.objects {
        let further = [
            ("JOBS_URL", addresses.redis.as_str()),
            ("ROWS_URL", addresses.postgres.as_str()),
            ("MEDIA_URL", objects),
            ("MEDIA_ACCESS_KEY", Objects::ACCESS_KEY),
            ("MEDIA_SECRET_KEY", Objects::SECRET_KEY),
        ];
        variables.extend(further.map(|(name, value)| (format!("COURSE_GC_STORES_{name}"), value.to_owned())));
    }
    if let Some(key) = &addresses.qdrant_api_key {
        variables.push(("COURSE_GC_STORES_VECTORS_API_KEY".to_owned(), key.clone()));
    }
    variables
}
