//! Qdrant collections as `course-gc doctor` sees them: the index on the course's key, and what strict mode allows.

use super::QdrantStore;
use super::collection::Collection;
use crate::domain::findings::Finding;
use crate::domain::ids::IdType;
use crate::errors::chain;

impl QdrantStore {
    /// What was found.
    pub(super) async fn examine_collections(&self) -> Vec<Finding> {
        let collections = match self.collections().await {
            Ok(collections) => collections,
            Err(error) => return vec![Finding::problem("collections", chain(&error), "see its connection, above")],
        };
        let mut findings: Vec<Finding> = collections.iter().flat_map(|it| examine(it, self.id_type)).collect();
        match self.still_marked(collections) {
            Ok((_, held)) => findings.extend(held.iter().map(|it| {
                let seen = format!(
                    "collection `{}` matches a pattern, and came after the store was adopted: it is held",
                    it.physical
                );
                Finding::advice("collections", seen, "look at `course-gc adopt`, and confirm with `--yes`")
            })),
            Err(error) => findings.push(Finding::problem("collections", chain(&error), "let the next run ask again")),
        }
        findings
    }
}

fn examine(collection: &Collection, id_type: IdType) -> Vec<Finding> {
    let Collection { physical, key, points, indexed, .. } = collection;
    let kind = match id_type {
        IdType::Uuid | IdType::Text(_) => "keyword",
        IdType::Integer => "integer",
    };
    let create = format!(
        "create a payload index: PUT /collections/{physical}/index {{\"field_name\": \"{key}\", \"field_schema\": \"{kind}\"}}"
    );
    if let Some(why) = collection.unsearchable() {
        let fix = if *indexed { "allow it in the collection's strict mode".to_owned() } else { create };
        return vec![Finding::problem("strict mode", why, fix)];
    }
    let index = match indexed {
        true => Finding::ok("index", format!("collection `{physical}` has an index on `{key}`")),
        false => {
            let seen = format!(
                "collection `{physical}` has no index on `{key}` that finds course ids: each run reads all of its {points} points"
            );
            Finding::advice("index", seen, create)
        }
    };
    vec![index, Finding::ok("strict mode", format!("that of collection `{physical}` allows what is needed"))]
}
