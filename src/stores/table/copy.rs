//! Copies of rows (S12): each as the text that Postgres writes, with where it lies.

use std::collections::{BTreeMap, HashMap};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};

use super::relation::{ROW, Relation};
use super::session::Session;
use super::{TableStore, named};
use crate::stores::copies::{Copied, Copies, Item, Receipt};
use crate::stores::{Handle, StoreError};

/// How many rows are read at once.
const PAGE: usize = 100;
/// The attribute that names the columns, in the order of the text, as JSON.
pub(super) const COLUMNS: &str = "columns";
/// The attribute of a row without a primary key: the how-manieth it is of those that are the same.
pub(super) const ORDINAL: &str = "ordinal";

/// A row that was copied: where it was, and the digest of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The number of the table, or of the partition.
    pub table: u32,
    /// `ctid`: the block and the place in it.
    pub block: u32,
    pub offset: u16,
    /// SHA-256 of the text in UTF-8.
    pub digest: [u8; 32],
}

/// What a place takes in a receipt.
const PLACE: usize = 4 + 4 + 2 + 32;

/// Places as a receipt.
pub(super) fn receipt(places: &[Place]) -> Receipt {
    let mut bytes = BytesMut::with_capacity(places.len() * PLACE);
    for place in places {
        bytes.put_u32(place.table);
        bytes.put_u32(place.block);
        bytes.put_u16(place.offset);
        bytes.put_slice(&place.digest);
    }
    Receipt(bytes.freeze())
}

/// The places of a receipt; nothing if it is none of ours.
pub(super) fn places(Receipt(bytes): &Receipt) -> Option<Vec<Place>> {
    if bytes.len() % PLACE != 0 {
        return None;
    }
    let place = |mut bytes: &[u8]| Place {
        table: bytes.get_u32(),
        block: bytes.get_u32(),
        offset: bytes.get_u16(),
        digest: std::array::from_fn(|n| bytes.get(n).copied().unwrap_or_default()),
    };
    Some(bytes.chunks_exact(PLACE).map(place).collect())
}

/// Copies the rows of a batch, in one snapshot.
pub(super) async fn copy(
    store: &TableStore,
    handles: &[Handle],
    copies: &mut dyn Copies,
) -> Result<Vec<Copied>, StoreError> {
    const DOING: &str = "copy rows";
    let postgres = store.patient();
    let (mut session, relations) = store.read(&postgres, DOING).await?;
    for relation in &relations {
        may_put_back(store, &mut session, relation).await?;
    }
    let mut copied = Vec::with_capacity(handles.len());
    for handle in handles {
        let Some(relation) = relations.get(handle.source.0) else {
            copied.push(Copied::Failed("its table is not configured any more".to_owned()));
            continue;
        };
        let places = copy_one(store, &mut session, (relation, handle), copies).await?;
        copied.push(if places.is_empty() { Copied::Absent } else { Copied::Whole(receipt(&places)) });
    }
    session.close().await;
    Ok(copied)
}

/// What nobody may put back must not go.
async fn may_put_back(store: &TableStore, session: &mut Session<'_>, relation: &Relation) -> Result<(), StoreError> {
    const ASK: &str = "SELECT has_table_privilege($1::int8::oid, 'INSERT')";
    let ask = sqlx::query_scalar::<_, bool>(ASK).bind(relation.oid).fetch_one(&mut session.connection);
    if session.postgres.call("asking for our rights", ask).await.map_err(store.failed("copy rows"))? {
        return Ok(());
    }
    let why = format!(
        "our role may not INSERT, so that nothing could be put back; GRANT INSERT ON {} to it, or set `quarantine: false`",
        relation.sql
    );
    Err(store.unusable(&relation.name, &why))
}

async fn copy_one(
    store: &TableStore,
    session: &mut Session<'_>,
    (relation, handle): (&Relation, &Handle),
    copies: &mut dyn Copies,
) -> Result<Vec<Place>, StoreError> {
    const ACTION: &str = "reading rows to copy";
    let postgres = session.postgres;
    let failed = store.failed("copy rows");
    let declare = format!(
        "DECLARE course_gc_rows NO SCROLL CURSOR FOR SELECT {ROW}.tableoid::int8, {ROW}.ctid::text, {ROW}::text, {key} {from} \
         AND {owned}",
        key = relation.key(),
        from = relation.from(),
        owned = relation.naming.exactly(&named(handle))
    );
    let declare = sqlx::raw_sql(AssertSqlSafe(declare)).execute(&mut session.connection);
    postgres.call(ACTION, declare).await.map_err(&failed)?;
    let names: Vec<&str> = relation.columns.iter().map(|column| column.name.as_str()).collect();
    let columns = serde_json::to_string(&names)
        .map_err(|error| StoreError::server(format!("table store `{}`: copy rows", store.name), error))?;
    let (mut places, mut same) = (Vec::new(), HashMap::<[u8; 32], u64>::new());
    loop {
        let fetch =
            sqlx::query(AssertSqlSafe(format!("FETCH {PAGE} FROM course_gc_rows"))).fetch_all(&mut session.connection);
        let rows = postgres.call(ACTION, fetch).await.map_err(&failed)?;
        for row in &rows {
            let (mut place, text, key) = read(row).map_err(|error| failed(postgres.failed(ACTION, error)))?;
            place.digest = Sha256::digest(text.as_bytes()).into();
            let ordinal = same.entry(place.digest).or_default();
            *ordinal += 1;
            let mut attributes = BTreeMap::from([(COLUMNS.to_owned(), columns.clone())]);
            let name = key.unwrap_or_else(|| {
                attributes.insert(ORDINAL.to_owned(), ordinal.to_string());
                format!("{} {}", handle.owner, places.len() + 1)
            });
            let item = Item {
                source: relation.name.clone(),
                course: handle.owner,
                name: Bytes::from(name),
                attributes,
                content: Bytes::from(text),
            };
            copies.add(item).await?;
            places.push(place);
        }
        if rows.len() < PAGE {
            break;
        }
    }
    let close = sqlx::raw_sql("CLOSE course_gc_rows").execute(&mut session.connection);
    postgres.call(ACTION, close).await.map_err(&failed)?;
    Ok(places)
}

/// A row's place, without its digest; its text; its key.
fn read(row: &PgRow) -> Result<(Place, String, Option<String>), sqlx::Error> {
    let nonsense = || sqlx::Error::Decode("a row does not say where it lies".into());
    let ctid: String = row.try_get(1)?;
    let lies = ctid.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).and_then(|rest| rest.split_once(','));
    let (block, offset) = lies.ok_or_else(nonsense)?;
    let place = Place {
        table: u32::try_from(row.try_get::<i64, _>(0)?).map_err(|_| nonsense())?,
        block: block.parse().map_err(|_| nonsense())?,
        offset: offset.parse().map_err(|_| nonsense())?,
        digest: [0; 32],
    };
    Ok((place, row.try_get(2)?, row.try_get(3)?))
}

/// How the places are asked for: three arrays.
pub(super) struct Places {
    pub tables: Vec<i64>,
    pub rows: Vec<String>,
    pub digests: Vec<Vec<u8>>,
}

impl Places {
    /// Some of a receipt's places.
    pub(super) fn of(places: &[Place]) -> Self {
        Self {
            tables: places.iter().map(|place| i64::from(place.table)).collect(),
            rows: places.iter().map(|place| format!("({},{})", place.block, place.offset)).collect(),
            digests: places.iter().map(|place| place.digest.to_vec()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s12_a_receipt_says_what_it_was_given() {
        let place = |n: u8| Place { table: u32::MAX, block: u32::from(n), offset: u16::MAX - 1, digest: [n; 32] };
        let all = [place(0), place(255)];
        assert_eq!(places(&receipt(&all)), Some(all.to_vec()));
        assert_eq!(places(&Receipt::default()), Some(vec![]));
        assert_eq!(places(&Receipt(Bytes::from_static(b"abc"))), None);
    }
}
