//! The configuration of `course-gc` for a campus: what its documented example says, at the sandbox's addresses.

use std::net::SocketAddr;

use crate::{
    Addresses, Resource,
    campus::{IdKind, KEY_TEMPLATES},
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
    /// Tables whose rows name courses, each with its schema: the store `rows`, if there are any.
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

/// The text of the configuration file. The URLs are not in it, since they may hold passwords: see [`environment`]. Only the
/// neighbours' and that of the tables are.
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
        tables,
        api,
    } = settings;
    let api = match api.as_slice() {
        [] => String::new(),
        lines => format!("api:\n{}", lines.iter().map(|line| format!("  {line}\n")).collect::<String>()),
    };
    let quarantine: String = quarantine.iter().map(|line| format!("  {line}\n")).collect();
    let course_id = match ids {
        IdKind::Uuid => "uuid",
        IdKind::Integer => "integer",
    };
    let limits: String = limits.iter().map(|line| format!("  {line}\n")).collect();
    let (kept, grace) = match tombstoned {
        Some(grace) => ("    tombstones:\n      table: public.courses\n", format!("  tombstoned: {grace}\n")),
        None => ("", String::new()),
    };
    let asked = |(name, url): &(String, String)| format!("  {name}:\n    url: {url}\n    query: {QUERY}\n");
    let rows = match tables.as_slice() {
        [] => String::new(),
        tables => {
            let table = |name: &String| format!("      - {{ table: {name}, exclusive: {exclusive} }}\n");
            let tables: String = tables.iter().map(table).collect();
            format!("  rows:\n    kind: table\n    url: {}\n    tables:\n{tables}", addresses.postgres)
        }
    };
    let neighbours: String = neighbours.iter().map(asked).collect();
    let template = |text: &&str| format!("      - {{ template: \"{text}\", exclusive: {exclusive} }}\n");
    let templates: String = KEY_TEMPLATES.iter().map(template).collect();
    let files = addresses.files.display();
    let alias = &addresses.alias;
    format!(
        "installation: campus
course_id: {course_id}
schedule:
  cron: \"{cron}\"
liveness:
  campus:
    query: {QUERY}
{kept}{neighbours}grace:
{grace}  departed: {departed}
  stranger: {stranger}
limits:
  i_accept: [short_grace, short_quarantine]
{limits}stores:
  vectors:
    kind: qdrant
    collections:
      - {{ name: {alias}, exclusive: {exclusive} }}
  cache:
    kind: redis
    templates:
{templates}  uploads:
    kind: files
    root: {files}/uploads
    layout: \"{UPLOADS_LAYOUT}\"
    exclusive: {exclusive}
    references:
      query: SELECT storage_path FROM public.file_catalog
      strip_prefix: uploads/
  enrichments:
    kind: files
    root: {files}/enrichments
    layout: \"{ENRICHMENTS_LAYOUT}\"
    exclusive: {exclusive}
{rows}quarantine:
  folder: {files}/.course-gc/archives
  min_free: 0%
{quarantine}http:
  listen: {listen}
{api}"
    )
}

/// The store of [`file()`] in which a resource lies, and the source that claims it, if one does.
pub fn place(addresses: &Addresses, resource: &Resource) -> (&'static str, Option<String>) {
    match resource {
        Resource::Point(_) => ("vectors", Some(addresses.alias.clone())),
        Resource::File(path) => match path.split_once('/') {
            Some(("uploads", below)) => ("uploads", below.contains('/').then(|| UPLOADS_LAYOUT.to_owned())),
            below => ("enrichments", below.filter(|(_, it)| it.contains('/')).map(|_| ENRICHMENTS_LAYOUT.to_owned())),
        },
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
    if let Some(key) = &addresses.qdrant_api_key {
        variables.push(("COURSE_GC_STORES_VECTORS_API_KEY".to_owned(), key.clone()));
    }
    variables
}
