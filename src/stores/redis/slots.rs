//! Which master of a Redis Cluster holds which keys. Pure.

use redis::Value;

/// How many slots there are; each key lies in one of them.
const COUNT: u16 = 16_384;

/// What decides about a key's slot, if it is not the whole key: what stands between its first `{` and the next `}`.
pub(in crate::stores) fn tag(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|byte| *byte == b'{')?;
    let rest = key.get(open + 1..)?;
    let close = rest.iter().position(|byte| *byte == b'}').filter(|close| *close > 0)?;
    rest.get(..close)
}

/// The slot of a key.
fn slot(key: &[u8]) -> u16 {
    crc16(tag(key).unwrap_or(key)) % COUNT
}

/// CRC-16/XMODEM, which Redis Cluster hashes by.
fn crc16(bytes: &[u8]) -> u16 {
    let shift = |crc: u16| (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 };
    bytes.iter().fold(0, |crc, byte| (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| shift(crc)))
}

/// A master of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::stores) struct Master {
    /// The node's id, which it keeps over restarts.
    pub(in crate::stores) id: String,
    pub(in crate::stores) host: String,
    pub(in crate::stores) port: u16,
}

/// Whose all slots are, as one node of the cluster sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::stores) struct Slots {
    /// In the order of their ids.
    masters: Vec<Master>,
    /// Without a gap: up to and with which slot, and whose by its place in `masters`.
    ranges: Vec<(u16, usize)>,
}

impl Slots {
    /// Reads the answer to CLUSTER SLOTS of a node that was asked at the address `asked`, or says why it cannot be relied on:
    /// every slot must be a master's.
    pub(in crate::stores) fn read(answer: &Value, asked: &str) -> Result<Self, String> {
        const NONSENSE: &str = "its answer to CLUSTER SLOTS cannot be read";
        let mut told = Vec::new();
        for entry in array(answer).ok_or(NONSENSE)? {
            told.push(range(entry, asked).ok_or(NONSENSE)?);
        }
        told.sort();
        let mut masters: Vec<Master> = told.iter().map(|(.., master)| master.clone()).collect();
        masters.sort();
        masters.dedup();
        let (mut ranges, mut next) = (Vec::<(u16, usize)>::new(), 0);
        for (first, last, master) in &told {
            if *first != next || last < first {
                return Err(uncovered(next));
            }
            let at = masters.binary_search(master).map_err(|_| NONSENSE)?;
            match ranges.last_mut() {
                Some((end, whose)) if *whose == at => *end = *last,
                _ => ranges.push((*last, at)),
            }
            next = last + 1;
        }
        if next == COUNT { Ok(Self { masters, ranges }) } else { Err(uncovered(next)) }
    }

    /// The masters that hold slots.
    pub(in crate::stores) fn masters(&self) -> &[Master] {
        &self.masters
    }

    /// Whose a key is, by its place in [`Slots::masters`].
    pub(in crate::stores) fn owner(&self, key: &[u8]) -> usize {
        let slot = slot(key);
        let at = self.ranges.partition_point(|(last, _)| *last < slot);
        self.ranges.get(at).map_or(0, |(_, master)| *master)
    }
}

fn uncovered(slot: u16) -> String {
    format!("slot {slot} of its cluster is no master's, or is told twice; see CLUSTER INFO, and wait until it is whole")
}

/// First slot, last slot and master of an entry.
fn range(entry: &Value, asked: &str) -> Option<(u16, u16, Master)> {
    let [first, last, master, ..] = array(entry)? else { return None };
    let [host, port, id, ..] = array(master)? else { return None };
    let (first, last) = (number(first)?, number(last).filter(|last| *last < COUNT)?);
    // A node that does not know its own address, or is not to tell, says nothing: then it is as it was asked.
    let host = text(host).filter(|host| !host.is_empty()).unwrap_or(asked).to_owned();
    Some((first, last, Master { id: text(id)?.to_owned(), host, port: number(port)? }))
}

fn array(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(values) => Some(values),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u16> {
    match value {
        Value::Int(number) => u16::try_from(*number).ok(),
        _ => None,
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// A slot that a node is giving away or taking, as its own line in its answer to CLUSTER NODES says: `[93->-id]`.
pub(in crate::stores) fn moving(nodes: &str) -> Option<&str> {
    let is_its_own = |line: &&str| line.split(' ').nth(2).is_some_and(|flags| flags.split(',').any(|f| f == "myself"));
    nodes.lines().find(is_its_own)?.split(' ').skip(8).find(|field| field.starts_with('['))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(ranges: &[(i64, i64, &str)]) -> Value {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let entry = |(first, last, id): &(i64, i64, &str)| {
            let master = Value::Array(vec![bulk("10.0.0.1"), Value::Int(7000), bulk(id), Value::Array(vec![])]);
            Value::Array(vec![Value::Int(*first), Value::Int(*last), master.clone(), master])
        };
        Value::Array(ranges.iter().map(entry).collect())
    }

    #[test]
    fn a_key_lies_in_the_slot_that_redis_says() {
        // Asked of a server by CLUSTER KEYSLOT.
        for (key, expected) in
            [("foo", 12_182), ("{user1000}.following", 3443), ("foo{}{bar}", 8363), ("foo{{bar}}zap", 4015), ("", 0)]
        {
            assert_eq!(slot(key.as_bytes()), expected, "{key}");
        }
        assert_eq!(slot(b"123456789"), 0x31c3);
        assert_eq!(slot(b"foo{bar}{zap}"), slot(b"bar"));
    }

    #[test]
    fn only_a_tag_of_some_letters_is_one() {
        for (key, expected) in [("{bull}:q", Some("bull")), ("a{b}{c}", Some("b")), ("{}a{b}", None), ("{a", None)] {
            assert_eq!(tag(key.as_bytes()), expected.map(str::as_bytes), "{key}");
        }
    }

    #[test]
    fn every_slot_is_somebodys_or_the_answer_is_refused() {
        let whole = Slots::read(&told(&[(5461, 16_383, "b"), (0, 99, "a"), (100, 5460, "a")]), "h").unwrap();
        assert_eq!(whole, Slots::read(&told(&[(0, 5460, "a"), (5461, 16_383, "b")]), "h").unwrap(), "joined");
        assert_eq!(whole.masters().iter().map(|master| &master.id[..]).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!([whole.owner(b""), whole.owner(b"foo")], [0, 1]);
        for gap in [
            &[(1, 16_383, "a")][..],
            &[(0, 16_382, "a")],
            &[(0, 8, "a"), (10, 16_383, "b")],
            &[(0, 8, "a"), (8, 16_383, "b")],
            &[(0, 16_383, "a"), (7, 7, "b")],
            &[(9, 8, "a")],
            &[],
        ] {
            let why = Slots::read(&told(gap), "h").unwrap_err();
            assert!(why.contains("is no master's, or is told twice"), "{gap:?}: {why}");
        }
        for nonsense in
            [Value::Nil, Value::Array(vec![Value::Int(3)]), told(&[(0, 16_384, "a")]), told(&[(-1, 9, "a")])]
        {
            assert!(Slots::read(&nonsense, "h").unwrap_err().contains("cannot be read"), "{nonsense:?}");
        }
    }

    #[test]
    fn a_node_that_tells_no_address_is_where_it_was_asked() {
        for unknown in [Value::Nil, Value::BulkString(vec![])] {
            let master = Value::Array(vec![unknown, Value::Int(7000), Value::BulkString(b"a".to_vec())]);
            let answer = Value::Array(vec![Value::Array(vec![Value::Int(0), Value::Int(16_383), master])]);
            assert_eq!(Slots::read(&answer, "redis-0").unwrap().masters()[0].host, "redis-0");
        }
    }

    #[test]
    fn a_slot_on_its_way_is_seen_in_a_nodes_own_line() {
        let still =
            "b 10.0.0.2:1@2 master - 0 0 2 connected 5-9 [5->-a]\na 10.0.0.1:1@2 myself,master - 0 0 1 connected 0-4";
        assert_eq!(moving(still), None, "of others a node tells nothing that counts");
        assert_eq!(moving(&format!("{still} [4->-b]\n")), Some("[4->-b]"));
        assert_eq!(moving(&format!("{still} 7 [5-<-b]")), Some("[5-<-b]"));
        assert_eq!(moving(""), None);
    }

    proptest! {
        #[test]
        fn every_key_has_one_owner(key in prop::collection::vec(any::<u8>(), 0..40), cut in 1..16_383i64) {
            let slots = Slots::read(&told(&[(0, cut - 1, "a"), (cut, 16_383, "b")]), "h").unwrap();
            prop_assert_eq!(slots.owner(&key), usize::from(i64::from(slot(&key)) >= cut));
        }
    }
}
