//! Binary COPY streams of ids (S4). Input: a byte for the type of ids and the size of the chunks, then the stream.

use course_gc::domain::ids::{CourseId, IdType};
use course_gc::postgres::copy::{CopyDecoder, CopyError};

use crate::ids::types;

/// Signature, flags and the length of the header's extension.
const HEADER: usize = 11 + 4 + 4;

/// Checks what is read of the stream.
///
/// # Panics
/// If a property does not hold.
pub fn check(input: &[u8]) {
    let Some((first, stream)) = input.split_first() else { return };
    let id_type = types()[usize::from(first & 3) % 3];
    let whole = decode(id_type, stream, usize::MAX);
    assert_eq!(decode(id_type, stream, usize::from(first >> 2).max(1)), whole, "where it is cut does not matter");
    let (ids, Ok(())) = whole else { return };

    assert_eq!(stream[11..13], [0, 0], "flags that change how rows are written are not known");
    assert_eq!(encode(stream, &ids), stream, "nothing was passed over");
    let end = stream.len() - 1;
    for at in [end, stream.len() / 2, stream.len().saturating_sub(3)] {
        let (some, result) = decode(id_type, &stream[..at], usize::MAX);
        assert_eq!(result, Err(CopyError::Truncated), "an answer without its end is none");
        assert!(ids.starts_with(&some));
    }
}

fn decode(id_type: IdType, stream: &[u8], cut: usize) -> (Vec<CourseId>, Result<(), CopyError>) {
    let mut decoder = CopyDecoder::new(id_type);
    let mut ids = Vec::new();
    for chunk in stream.chunks(cut) {
        if let Err(error) = decoder.push(chunk, |id| ids.push(id)) {
            return (ids, Err(error));
        }
    }
    let result = decoder.finish();
    (ids, result)
}

/// The stream of these ids, with the header of `stream` and its extension.
fn encode(stream: &[u8], ids: &[CourseId]) -> Vec<u8> {
    let extension = stream
        .get(HEADER - 4..HEADER)
        .map_or(0, |length| length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)));
    let mut encoded = stream[..HEADER + extension].to_vec();
    for id in ids {
        encoded.extend(1i16.to_be_bytes());
        match id {
            CourseId::Uuid(id) => {
                encoded.extend(16i32.to_be_bytes());
                encoded.extend(id.as_bytes());
            }
            CourseId::Text(id) => {
                encoded.extend(i32::try_from(id.as_str().len()).unwrap_or_default().to_be_bytes());
                encoded.extend(id.as_str().as_bytes());
            }
            CourseId::Integer(id) => {
                encoded.extend(8i32.to_be_bytes());
                encoded.extend(id.to_be_bytes());
            }
        }
    }
    encoded.extend((-1i16).to_be_bytes());
    encoded
}
