//! Postgres's binary COPY of one column of ids, decoded as it streams in.

use bytes::Buf;
use futures::{FutureExt, StreamExt};
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::{Postgres, PostgresError};
use crate::domain::ids::text::LONGEST;
use crate::domain::ids::{CourseId, IdType};

/// The most rows that are taken at once. Each comes in a message of its own, and a timer for each would cost more than the row.
const ROWS: usize = 1024;

/// What every binary COPY begins with.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// The flags of the header that change how rows are written; none of them is known here.
const CRITICAL_FLAGS: u32 = 0xffff_0000;

/// Why a COPY stream cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// It does not begin as a binary COPY does.
    #[error("the answer is no binary COPY stream")]
    Signature,
    /// A row does not hold exactly one id of the expected width.
    #[error("the answer holds a row that is not one id")]
    Row,
    /// A text is no id (S4): what it names cannot be told from what nobody owns.
    #[error(
        "the answer holds a text that is no id by the pattern of `course_id`: widen the pattern, or leave out in the query what \
         is no course"
    )]
    NoId,
    /// It ended before its trailer: rows may be missing (S4).
    #[error("the answer ended before its end")]
    Truncated,
}

/// Reads ids from chunks that are cut anywhere.
#[derive(Debug)]
pub struct CopyDecoder {
    id_type: IdType,
    /// The beginning of a header or a row whose end has not come yet. A server sends each row in a chunk of its own, so it is
    /// hardly ever used.
    cut: Vec<u8>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Rows,
    Ended,
}

impl CopyDecoder {
    /// A decoder at the start of a stream.
    pub fn new(id_type: IdType) -> Self {
        Self { id_type, cut: Vec::new(), state: State::Header }
    }

    /// Takes the next chunk and hands out the ids that are complete.
    ///
    /// # Errors
    /// If the stream is not what it should be.
    #[inline]
    pub fn push(&mut self, chunk: &[u8], id: impl FnMut(CourseId)) -> Result<(), CopyError> {
        if self.cut.is_empty() {
            let rest = self.read(chunk, id)?;
            self.cut.extend_from_slice(rest);
        } else {
            self.cut.extend_from_slice(chunk);
            let whole = std::mem::take(&mut self.cut);
            self.cut = self.read(&whole, id)?.to_vec();
        }
        Ok(())
    }

    /// Reads as far as it goes, and returns the rest.
    #[inline]
    fn read<'a>(&mut self, mut bytes: &'a [u8], mut id: impl FnMut(CourseId)) -> Result<&'a [u8], CopyError> {
        loop {
            match self.state {
                State::Header => {
                    let fixed = SIGNATURE.len() + 8;
                    if bytes.len() < fixed {
                        return Ok(bytes);
                    }
                    if !bytes.starts_with(SIGNATURE) {
                        return Err(CopyError::Signature);
                    }
                    let mut rest = &bytes[SIGNATURE.len()..];
                    if rest.get_u32() & CRITICAL_FLAGS != 0 {
                        return Err(CopyError::Signature);
                    }
                    let extension = usize::try_from(rest.get_u32()).map_err(|_| CopyError::Signature)?;
                    let Some(rows) = bytes.get(fixed + extension..) else { return Ok(bytes) };
                    bytes = rows;
                    self.state = State::Rows;
                }
                State::Rows => match self.row(&mut bytes)? {
                    Some(found) => id(found),
                    // What follows the trailer is judged, too.
                    None if self.state == State::Ended => {}
                    None => return Ok(bytes),
                },
                State::Ended => return if bytes.is_empty() { Ok(bytes) } else { Err(CopyError::Row) },
            }
        }
    }

    /// The next id, if all of its bytes are here and the stream has not ended; takes it off.
    #[inline]
    fn row(&mut self, bytes: &mut &[u8]) -> Result<Option<CourseId>, CopyError> {
        let mut rest = *bytes;
        if rest.remaining() < 2 {
            return Ok(None);
        }
        match rest.get_i16() {
            -1 => {
                *bytes = rest;
                self.state = State::Ended;
                return Ok(None);
            }
            1 => {}
            _ => return Err(CopyError::Row),
        }
        if rest.remaining() < 4 {
            return Ok(None);
        }
        let width = usize::try_from(rest.get_i32()).map_err(|_| CopyError::Row)?;
        let is_right = match self.id_type {
            IdType::Uuid => width == 16,
            IdType::Integer => width == 8,
            // What is longer is no id; it is not waited for.
            IdType::Text(_) if width > LONGEST => return Err(CopyError::NoId),
            IdType::Text(_) => true,
        };
        if !is_right {
            return Err(CopyError::Row);
        }
        if rest.remaining() < width {
            return Ok(None);
        }
        let id = match self.id_type {
            IdType::Uuid => CourseId::Uuid(Uuid::from_u128(rest.get_u128())),
            IdType::Integer => CourseId::Integer(rest.get_i64()),
            IdType::Text(ids) => {
                let (text, after) = rest.split_at(width);
                rest = after;
                CourseId::Text(ids.parse(text).ok_or(CopyError::NoId)?)
            }
        };
        *bytes = rest;
        Ok(Some(id))
    }

    /// Makes sure that the stream came to its end.
    ///
    /// # Errors
    /// If it did not.
    pub fn finish(&self) -> Result<(), CopyError> {
        if self.state == State::Ended { Ok(()) } else { Err(CopyError::Truncated) }
    }
}

impl Postgres {
    /// Reads ids by a statement `COPY … TO STDOUT (FORMAT binary)` of one column. However many there are, the next ones must come within
    /// the time of one call.
    ///
    /// # Errors
    /// If it fails, or ends before its end (S4): then ids may be missing. Whatever is asked on the same connection after that would get what is
    /// left of them as its answer: it must not be used any more, nor go back to a pool.
    pub async fn copy_ids(
        &self,
        action: &'static str,
        (connection, statement): (&mut PgConnection, &str),
        id_type: IdType,
        mut id: impl FnMut(CourseId),
    ) -> Result<(), PostgresError> {
        let mut copy = self.call(action, connection.copy_out_raw(statement)).await?;
        let mut decoder = CopyDecoder::new(id_type);
        let nonsense = |error: CopyError| self.nonsense(error.to_string());
        loop {
            let decoded = async {
                // Waits for one row; the others are taken if they are here.
                let (mut next, mut rows) = (Some(copy.next().await), 0);
                while let Some(chunk) = next {
                    let Some(chunk) = chunk else { return Ok(Ok(false)) };
                    if let Err(error) = decoder.push(&chunk?, &mut id) {
                        return Ok(Err(error));
                    }
                    rows += 1;
                    next = if rows < ROWS { copy.next().now_or_never() } else { None };
                }
                Ok(Ok(true))
            };
            if !self.call(action, decoded).await?.map_err(nonsense)? {
                break;
            }
        }
        decoder.finish().map_err(nonsense)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream(ids: &[i64]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0; 8]);
        for id in ids {
            bytes.extend(1i16.to_be_bytes());
            bytes.extend(8i32.to_be_bytes());
            bytes.extend(id.to_be_bytes());
        }
        bytes.extend((-1i16).to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8], cut: usize) -> Result<Vec<i64>, CopyError> {
        let mut decoder = CopyDecoder::new(IdType::Integer);
        let mut ids = Vec::new();
        for chunk in bytes.chunks(cut.max(1)) {
            decoder.push(chunk, |id| {
                if let CourseId::Integer(id) = id {
                    ids.push(id);
                }
            })?;
        }
        decoder.finish()?;
        Ok(ids)
    }

    #[test]
    fn s4_a_truncated_answer_is_an_error() {
        let whole = stream(&[1, 2, 3]);
        for len in 0..whole.len() {
            assert_eq!(decode(&whole[..len], 7), Err(CopyError::Truncated), "cut after {len} bytes");
        }
    }

    #[test]
    fn s4_a_null_or_a_second_column_is_an_error() {
        let mut null = SIGNATURE.to_vec();
        null.extend([0; 8]);
        null.extend(1i16.to_be_bytes());
        null.extend((-1i32).to_be_bytes());
        assert_eq!(decode(&null, 100), Err(CopyError::Row));
        assert_eq!(decode(&[0; 40], 100), Err(CopyError::Signature));
    }

    #[test]
    fn s4_nothing_follows_the_end() {
        let mut bytes = stream(&[1]);
        bytes.push(0);
        for cut in [bytes.len(), bytes.len() - 1, 1] {
            assert_eq!(decode(&bytes, cut), Err(CopyError::Row), "chunks of {cut} bytes");
        }
    }

    #[test]
    fn s4_a_header_that_announces_other_rows_is_refused() {
        let mut bytes = stream(&[1]);
        bytes[SIGNATURE.len() + 3] = 1;
        assert_eq!(decode(&bytes, 100), Ok(vec![1]), "the lower flags change no row");
        bytes[SIGNATURE.len() + 1] = 1;
        assert_eq!(decode(&bytes, 100), Err(CopyError::Signature));
    }

    #[test]
    fn s4_a_text_that_is_no_id_is_an_error_and_is_not_waited_for() {
        let mut stream = SIGNATURE.to_vec();
        stream.extend([0; 8]);
        for text in ["cabc", "c123", "beyond"] {
            stream.extend(1i16.to_be_bytes());
            stream.extend(i32::try_from(text.len()).unwrap().to_be_bytes());
            stream.extend(text.as_bytes());
        }
        let decode = |bytes: &[u8]| {
            let (mut decoder, mut ids) = (CopyDecoder::new("text:c[a-z0-9]{3}".parse().unwrap()), Vec::new());
            let pushed = decoder.push(bytes, |id| ids.push(id.to_string()));
            (ids, pushed)
        };
        let ids = || vec!["cabc".to_owned(), "c123".to_owned()];
        assert_eq!(decode(&stream), (ids(), Err(CopyError::NoId)));
        let at = stream.len() - "beyond".len() - 4;
        stream.truncate(at);
        assert_eq!(decode(&stream), (ids(), Ok(())));
        stream.extend(1_000_000i32.to_be_bytes());
        assert_eq!(decode(&stream), (ids(), Err(CopyError::NoId)));
    }

    proptest! {
        #[test]
        fn ids_come_out_however_the_stream_is_cut(ids in proptest::collection::vec(any::<i64>(), 0..50), cut in 1usize..64) {
            prop_assert_eq!(decode(&stream(&ids), cut), Ok(ids));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 1usize..64) {
            let _ = decode(&bytes, cut);
            let mut framed = stream(&[]);
            framed.truncate(framed.len() - 2);
            framed.extend(bytes);
            let _ = decode(&framed, cut);
        }
    }
}
