//! The messages of PostgreSQL's `pgoutput` plugin, protocol versions 1 to 4 (documentation,
//! "Logical Replication Message Formats"; `src/backend/replication/logical/proto.c`).

use bytes::Bytes;

use super::{DecodeError, cursor::Cursor};
use crate::types::{Lsn, TableOid, TypeOid, Xid};

/// One message. Inside a stream block (between StreamStart and StreamStop) changes carry the id of
/// the transaction or subtransaction that made them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicationMessage {
    Begin(Begin),
    Commit(Commit),
    /// The transaction came from elsewhere to the primary; of no matter here.
    Origin,
    Relation {
        xid: Option<Xid>,
        relation: Relation,
    },
    Type {
        xid: Option<Xid>,
        oid: TypeOid,
    },
    Insert {
        xid: Option<Xid>,
        relation: TableOid,
        new: Tuple,
    },
    Update {
        xid: Option<Xid>,
        relation: TableOid,
        old: Option<OldTuple>,
        new: Tuple,
    },
    Delete {
        xid: Option<Xid>,
        relation: TableOid,
        old: OldTuple,
    },
    Truncate {
        xid: Option<Xid>,
        relations: Vec<TableOid>,
    },
    /// `pg_logical_emit_message`.
    Message {
        xid: Option<Xid>,
        transactional: bool,
        lsn: Lsn,
        prefix: String,
        content: Bytes,
    },
    StreamStart {
        xid: Xid,
        first: bool,
    },
    StreamStop,
    StreamCommit {
        xid: Xid,
        commit: Commit,
    },
    /// `subxid == xid` ends the whole transaction.
    StreamAbort {
        xid: Xid,
        subxid: Xid,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Start of the commit record, equal to [`Commit::commit_lsn`].
    pub final_lsn: Lsn,
    pub xid: Xid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    pub commit_lsn: Lsn,
    /// The next byte after the commit record: the position to keep and to acknowledge.
    pub end_lsn: Lsn,
    /// Microseconds since 2000-01-01 by the primary's clock.
    pub timestamp_us: i64,
}

/// A table as the stream describes it, before its first change and after each change of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    pub oid: TableOid,
    pub schema: String,
    pub name: String,
    pub identity: ReplicaIdentityKind,
    pub columns: Vec<RelationColumn>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaIdentityKind {
    Default,
    Nothing,
    Full,
    Index,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationColumn {
    /// Part of the replica identity: under FULL that is every column.
    pub key: bool,
    pub name: String,
    pub type_oid: TypeOid,
    pub typmod: i32,
}

/// The row before an UPDATE or DELETE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OldTuple {
    /// Only key columns count, the others are sent as NULL and mean nothing.
    Key(Tuple),
    Full(Tuple),
}

/// Column values as sent, checked to be whole but not taken apart: one share of the message's memory,
/// however many columns there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuple {
    count: usize,
    /// For each value its kind and, for those that have one, its length and content.
    bytes: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TupleValue<'a> {
    Null,
    /// A TOASTed value that the UPDATE did not touch: it is the one we have.
    Unchanged,
    Text(&'a [u8]),
    Binary(&'a [u8]),
}

impl Tuple {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The values, in the order of the relation's columns.
    pub fn values(&self) -> impl Iterator<Item = TupleValue<'_>> {
        let mut rest: &[u8] = &self.bytes;
        // It ends where `tuple` ended: there is nothing behind the last value.
        std::iter::from_fn(move || {
            let (kind, after) = rest.split_first()?;
            if let b'n' | b'u' = kind {
                rest = after;
                return Some(if *kind == b'n' { TupleValue::Null } else { TupleValue::Unchanged });
            }
            let (length, after) = after.split_first_chunk::<4>()?;
            let (value, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            rest = after;
            Some(if *kind == b't' { TupleValue::Text(value) } else { TupleValue::Binary(value) })
        })
    }
}

impl<'a> FromIterator<TupleValue<'a>> for Tuple {
    /// A tuple of these values, as it would have been sent.
    fn from_iter<T: IntoIterator<Item = TupleValue<'a>>>(values: T) -> Tuple {
        let (mut count, mut bytes) = (0, Vec::new());
        for value in values {
            count += 1;
            let (kind, content) = match value {
                TupleValue::Null => (b'n', None),
                TupleValue::Unchanged => (b'u', None),
                TupleValue::Text(content) => (b't', Some(content)),
                TupleValue::Binary(content) => (b'b', Some(content)),
            };
            bytes.push(kind);
            if let Some(content) = content {
                bytes.extend_from_slice(&(content.len() as u32).to_be_bytes());
                bytes.extend_from_slice(content);
            }
        }
        Tuple { count, bytes: bytes.into() }
    }
}

/// Parses messages in stream order; remembers whether it is inside a stream block, where messages
/// look different.
#[derive(Debug, Default)]
pub struct Decoder {
    in_stream: bool,
}

impl Decoder {
    /// Parses one message. The whole of it must be understood.
    pub fn decode(&mut self, message: Bytes) -> Result<ReplicationMessage, DecodeError> {
        let mut cursor = Cursor::new("a replication message", message);
        let kind = cursor.u8()?;
        let message = match kind {
            b'B' => {
                let mut c = rename(cursor, "Begin");
                let begin = Begin { final_lsn: Lsn(c.u64()?), xid: with_time(&mut c)? };
                c.finish()?;
                ReplicationMessage::Begin(begin)
            }
            b'C' => {
                let mut c = rename(cursor, "Commit");
                let commit = commit(&mut c)?;
                c.finish()?;
                ReplicationMessage::Commit(commit)
            }
            b'O' => ReplicationMessage::Origin,
            b'R' => {
                let mut c = rename(cursor, "Relation");
                let xid = self.xid(&mut c)?;
                let relation = relation(&mut c)?;
                c.finish()?;
                ReplicationMessage::Relation { xid, relation }
            }
            b'Y' => {
                let mut c = rename(cursor, "Type");
                let xid = self.xid(&mut c)?;
                let oid = TypeOid(c.u32()?);
                c.string()?;
                c.string()?;
                c.finish()?;
                ReplicationMessage::Type { xid, oid }
            }
            b'I' => {
                let mut c = rename(cursor, "Insert");
                let xid = self.xid(&mut c)?;
                let relation = TableOid(c.u32()?);
                expect(&mut c, b'N')?;
                let new = tuple(&mut c)?;
                c.finish()?;
                ReplicationMessage::Insert { xid, relation, new }
            }
            b'U' => {
                let mut c = rename(cursor, "Update");
                let xid = self.xid(&mut c)?;
                let relation = TableOid(c.u32()?);
                let old = match c.u8()? {
                    b'N' => None,
                    byte => {
                        let old = old_tuple(byte, &mut c)?;
                        expect(&mut c, b'N')?;
                        Some(old)
                    }
                };
                let new = tuple(&mut c)?;
                c.finish()?;
                ReplicationMessage::Update { xid, relation, old, new }
            }
            b'D' => {
                let mut c = rename(cursor, "Delete");
                let xid = self.xid(&mut c)?;
                let relation = TableOid(c.u32()?);
                let byte = c.u8()?;
                let old = old_tuple(byte, &mut c)?;
                c.finish()?;
                ReplicationMessage::Delete { xid, relation, old }
            }
            b'T' => {
                let mut c = rename(cursor, "Truncate");
                let xid = self.xid(&mut c)?;
                let count = c.u32()?;
                // CASCADE and RESTART IDENTITY: every table concerned is listed anyway.
                c.u8()?;
                let mut relations = Vec::new();
                for _ in 0..count {
                    relations.push(TableOid(c.u32()?));
                }
                c.finish()?;
                ReplicationMessage::Truncate { xid, relations }
            }
            b'M' => {
                let mut c = rename(cursor, "Message");
                let xid = self.xid(&mut c)?;
                let transactional = c.u8()? & 1 == 1;
                let lsn = Lsn(c.u64()?);
                let prefix = c.string()?;
                let length = c.u32()?;
                let content = c.take(length as usize)?;
                c.finish()?;
                ReplicationMessage::Message { xid, transactional, lsn, prefix, content }
            }
            b'S' => {
                let mut c = rename(cursor, "Stream Start");
                let xid = Xid(c.u32()?);
                let first = c.u8()? == 1;
                c.finish()?;
                self.in_stream = true;
                ReplicationMessage::StreamStart { xid, first }
            }
            b'E' => {
                cursor.finish()?;
                self.in_stream = false;
                ReplicationMessage::StreamStop
            }
            b'c' => {
                let mut c = rename(cursor, "Stream Commit");
                let xid = Xid(c.u32()?);
                let commit = commit(&mut c)?;
                c.finish()?;
                ReplicationMessage::StreamCommit { xid, commit }
            }
            b'A' => {
                let mut c = rename(cursor, "Stream Abort");
                let xid = Xid(c.u32()?);
                let subxid = Xid(c.u32()?);
                // With `streaming 'parallel'` the abort's position and time follow.
                if !c.is_empty() {
                    c.u64()?;
                    c.u64()?;
                }
                c.finish()?;
                ReplicationMessage::StreamAbort { xid, subxid }
            }
            byte => return Err(DecodeError::Unknown { what: "replication message", byte }),
        };
        Ok(message)
    }

    fn xid(&self, c: &mut Cursor) -> Result<Option<Xid>, DecodeError> {
        if self.in_stream { Ok(Some(Xid(c.u32()?))) } else { Ok(None) }
    }
}

fn rename(mut cursor: Cursor, what: &'static str) -> Cursor {
    cursor.set_what(what);
    cursor
}

fn with_time(c: &mut Cursor) -> Result<Xid, DecodeError> {
    c.u64()?;
    Ok(Xid(c.u32()?))
}

fn commit(c: &mut Cursor) -> Result<Commit, DecodeError> {
    c.u8()?;
    Ok(Commit { commit_lsn: Lsn(c.u64()?), end_lsn: Lsn(c.u64()?), timestamp_us: c.u64()? as i64 })
}

fn expect(c: &mut Cursor, wanted: u8) -> Result<(), DecodeError> {
    match c.u8()? {
        byte if byte == wanted => Ok(()),
        byte => Err(DecodeError::Unknown { what: "tuple kind", byte }),
    }
}

fn old_tuple(byte: u8, c: &mut Cursor) -> Result<OldTuple, DecodeError> {
    match byte {
        b'K' => Ok(OldTuple::Key(tuple(c)?)),
        b'O' => Ok(OldTuple::Full(tuple(c)?)),
        byte => Err(DecodeError::Unknown { what: "tuple kind", byte }),
    }
}

fn relation(c: &mut Cursor) -> Result<Relation, DecodeError> {
    let oid = TableOid(c.u32()?);
    let schema = c.string()?;
    // An empty name stands for pg_catalog (logicalrep_write_namespace).
    let schema = if schema.is_empty() { "pg_catalog".into() } else { schema };
    let name = c.string()?;
    let identity = match c.u8()? {
        b'd' => ReplicaIdentityKind::Default,
        b'n' => ReplicaIdentityKind::Nothing,
        b'f' => ReplicaIdentityKind::Full,
        b'i' => ReplicaIdentityKind::Index,
        byte => return Err(DecodeError::Unknown { what: "replica identity", byte }),
    };
    let count = c.i16()?;
    let mut columns = Vec::new();
    for _ in 0..count {
        let key = c.u8()? & 1 == 1;
        let name = c.string()?;
        columns.push(RelationColumn { key, name, type_oid: TypeOid(c.u32()?), typmod: c.i32()? });
    }
    Ok(Relation { oid, schema, name, identity, columns })
}

fn tuple(c: &mut Cursor) -> Result<Tuple, DecodeError> {
    let count = usize::try_from(c.i16()?).unwrap_or(0);
    let start = c.position();
    for _ in 0..count {
        match c.u8()? {
            b'n' | b'u' => {}
            b't' | b'b' => {
                let length = c.u32()?;
                c.skip(length as usize)?;
            }
            byte => return Err(DecodeError::Unknown { what: "column kind", byte }),
        }
    }
    Ok(Tuple { count, bytes: c.since(start) })
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    fn message(parts: &[&[u8]]) -> Bytes {
        parts.concat().into()
    }

    #[test]
    fn an_update_with_its_old_key() {
        let bytes = message(&[b"U\0\0\0\x07K\0\x02t\0\0\0\x011n", b"N\0\x02t\0\0\0\x012u"]);
        let decoded = Decoder::default().decode(bytes);
        let text = |s: &'static str| TupleValue::Text(s.as_bytes());
        assert_eq!(
            decoded,
            Ok(ReplicationMessage::Update {
                xid: None,
                relation: TableOid(7),
                old: Some(OldTuple::Key([text("1"), TupleValue::Null].into_iter().collect())),
                new: [text("2"), TupleValue::Unchanged].into_iter().collect(),
            })
        );
    }

    #[test]
    fn changes_within_a_stream_block_carry_their_transaction() {
        let mut decoder = Decoder::default();
        let delete = b"\0\0\0\x07O\0\x01b\0\0\0\x01x";
        decoder.decode(message(&[b"S\0\0\0\x05\x01"])).expect("stream start");
        let inside = decoder.decode(message(&[b"D\0\0\0\x06", delete])).expect("delete");
        assert!(matches!(inside, ReplicationMessage::Delete { xid: Some(Xid(6)), .. }));
        decoder.decode(message(&[b"E"])).expect("stream stop");
        let outside = decoder.decode(message(&[b"D", delete])).expect("delete");
        assert!(matches!(outside, ReplicationMessage::Delete { xid: None, .. }));
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for bad in [
            &b""[..],
            b"Z",
            b"E\0",
            b"B\0",
            b"D\0\0\0\x07X",
            b"I\0\0\0\x07N\0\x01t\xff\xff\xff\xffx",
            b"I\0\0\0\x07N\0\0z",
        ] {
            assert!(Decoder::default().decode(Bytes::copy_from_slice(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn any_bytes_are_survived() {
        let seed: u64 = rand::rng().random();
        println!("seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        for _ in 0..200_000 {
            let mut bytes: Vec<u8> = (0..rng.random_range(1..60)).map(|_| rng.random()).collect();
            bytes[0] = *b"BCORYIUDTMSEcA".get(rng.random_range(0..14)).expect("a kind");
            let mut decoder = Decoder { in_stream: rng.random() };
            // Small counts and lengths reach deeper.
            for byte in &mut bytes[1..] {
                if rng.random_bool(0.5) {
                    *byte = *b"\0\0\0\x01\x02NKOtbnu".get(rng.random_range(0..12)).expect("a byte");
                }
            }
            let _ = std::hint::black_box(decoder.decode(bytes.into()));
        }
    }
}
