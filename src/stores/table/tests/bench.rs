use super::*;
use crate::stores::contract::{Bench, Contents};

/// Two tables: one with a key and a typed column, one of text in partitions.
struct TableBench {
    bed: Bed,
    store: TableStore,
    shape: Shape,
    planted: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    One,
    Many,
}

const TABLES: [&str; 2] = ["cache", "notes"];

impl TableBench {
    async fn create(id_type: IdType, shape: Shape) -> Self {
        let typed = match id_type {
            IdType::Uuid => "uuid",
            IdType::Integer => "bigint",
            IdType::Text(_) => "text",
        };
        let array = match shape {
            Shape::One => "",
            Shape::Many => "[]",
        };
        let bed = Bed::with(&format!(
            "CREATE TABLE cache (n bigint PRIMARY KEY, course_id {typed}{array}, body text, at timestamptz DEFAULT now()); \
             CREATE TABLE notes (course_id varchar(40){array}, n bigint PRIMARY KEY, body text) PARTITION BY RANGE (n); \
             CREATE TABLE notes_first PARTITION OF notes FOR VALUES FROM (0) TO (50); \
             CREATE TABLE notes_later (body text, n bigint NOT NULL, course_id varchar(40){array}); \
             ALTER TABLE notes ATTACH PARTITION notes_later FOR VALUES FROM (50) TO (100000)"
        ))
        .await;
        let store = bed.store(id_type, &TABLES.map(table));
        Self { bed, store, shape, planted: AtomicU64::new(0) }
    }

    async fn insert(&self, source: SourceIndex, ids: &[String]) -> Vec<u8> {
        let n = self.planted.fetch_add(1, Ordering::Relaxed);
        let id = match self.shape {
            Shape::One => ids[0].clone(),
            Shape::Many => format!("{{{}}}", ids.join(",")),
        };
        let table = TABLES[source.0];
        self.bed
            .run(&format!("INSERT INTO {table} (n, course_id, body) VALUES ({n}, '{id}', 'body {n}, \"of it\"')"))
            .await;
        format!("{table}:{n}").into_bytes()
    }
}

#[async_trait]
impl Bench for TableBench {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    fn id_type(&self) -> IdType {
        self.store.id_type
    }

    async fn plant(&self, source: SourceIndex, course: CourseId) -> Vec<u8> {
        self.insert(source, &[course.to_string()]).await
    }

    async fn plant_entangled(&self, source: SourceIndex, owner: CourseId, other: CourseId) -> Option<Vec<u8>> {
        match self.shape {
            Shape::One => None,
            Shape::Many => Some(self.insert(source, &[other.to_string(), owner.to_string()]).await),
        }
    }

    async fn plant_unrecognised(&self, source: SourceIndex) -> Option<Vec<u8>> {
        let text = match (self.store.id_type, source) {
            (_, SOURCE) => return None,
            (IdType::Uuid | IdType::Text(_), _) => "0B5A6F0E-4D7C-4A39-9A43-6D7A5F0C0015",
            (IdType::Integer, _) => "007",
        };
        Some(self.insert(source, &[text.to_owned()]).await)
    }

    async fn rewrite(&self, _: SourceIndex, _: CourseId, name: &[u8]) -> bool {
        let (table, n) = std::str::from_utf8(name).unwrap().split_once(':').unwrap();
        self.bed.run(&format!("UPDATE {table} SET body = 'written to since' WHERE n = {n}")).await;
        true
    }

    async fn contents(&self) -> Contents {
        let mut contents = Contents::new();
        let mut connection = self.bed.connect().await;
        for table in TABLES {
            let query = format!("SELECT '{table}:' || n, t::text FROM {table} AS t");
            for row in sqlx::raw_sql(AssertSqlSafe(query)).fetch_all(&mut connection).await.unwrap() {
                let (name, text): (String, String) = (row.try_get(0).unwrap(), row.try_get(1).unwrap());
                contents.insert(name.into_bytes(), text.into_bytes());
            }
        }
        contents
    }
}

#[tokio::test]
async fn tables_keep_the_contract_for_uuids() {
    contract::keeps(&TableBench::create(IdType::Uuid, Shape::One).await).await;
}

#[tokio::test]
async fn tables_keep_the_contract_for_integers() {
    contract::keeps(&TableBench::create(IdType::Integer, Shape::One).await).await;
}

#[tokio::test]
async fn tables_keep_the_contract_for_texts() {
    contract::keeps(&TableBench::create(contract::texts(), Shape::One).await).await;
}

#[tokio::test]
async fn tables_keep_the_contract_for_arrays_of_texts() {
    contract::keeps(&TableBench::create(contract::texts(), Shape::Many).await).await;
}

#[tokio::test]
async fn tables_keep_the_contract_for_arrays_of_uuids() {
    contract::keeps(&TableBench::create(IdType::Uuid, Shape::Many).await).await;
}

#[tokio::test]
async fn tables_keep_the_contract_for_arrays_of_integers() {
    contract::keeps(&TableBench::create(IdType::Integer, Shape::Many).await).await;
}
