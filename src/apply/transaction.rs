//! Messages to whole transactions: nothing is applied before its commit has arrived.

use std::collections::{HashMap, HashSet};

use crate::{
    decode::{Commit, ReplicationMessage},
    types::{TableOid, Xid},
};

/// A change and the messages that describe tables, in the order of the stream.
pub(super) type Change = ReplicationMessage;

/// What a message led to.
#[derive(Debug)]
pub(super) enum Step {
    /// A transaction has begun, goes on, or was rolled back.
    Nothing,
    Committed(Committed),
    /// A message outside of a transaction.
    Loose(Change),
}

/// A transaction that the primary has committed.
#[derive(Debug)]
pub(super) struct Committed {
    pub(super) commit: Commit,
    /// With the subtransaction that made each.
    pub(super) changes: Vec<(Option<Xid>, Change)>,
    /// Tables whose changes were let go because the transaction was larger than allowed: they have
    /// to be copied again.
    pub(super) overflowed: HashSet<TableOid>,
}

/// The stream is not in the order that the protocol gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} out of order in the replication stream")]
pub struct OutOfOrder(&'static str);

/// Gathers transactions: at most one that is sent whole after its commit, and any number that are
/// streamed in blocks while they run.
#[derive(Debug)]
pub(super) struct Transactions {
    bytes_max: u64,
    whole: Option<Gathered>,
    streamed: HashMap<Xid, Gathered>,
    /// The transaction whose stream block is open.
    block: Option<Xid>,
}

#[derive(Debug, Default)]
struct Gathered {
    /// With the subtransaction that made each.
    changes: Vec<(Option<Xid>, Change)>,
    bytes: u64,
    overflowed: HashSet<TableOid>,
}

impl Transactions {
    /// `bytes_max` bounds what one open transaction holds here.
    pub(super) fn new(bytes_max: u64) -> Transactions {
        Transactions { bytes_max, whole: None, streamed: HashMap::new(), block: None }
    }

    /// Whether a transaction that is committed has not arrived in full. Transactions that are
    /// streamed while they run do not count: their commit is still to come.
    pub(super) fn is_open(&self) -> bool {
        self.whole.is_some()
    }

    /// Takes the next message; `bytes` is its size.
    pub(super) fn take(&mut self, message: ReplicationMessage, bytes: usize) -> Result<Step, OutOfOrder> {
        match message {
            ReplicationMessage::Begin(_) => {
                if self.whole.is_some() || self.block.is_some() {
                    return Err(OutOfOrder("Begin"));
                }
                self.whole = Some(Gathered::default());
                Ok(Step::Nothing)
            }
            ReplicationMessage::Commit(commit) => {
                let gathered = self.whole.take().ok_or(OutOfOrder("Commit"))?;
                Ok(Step::Committed(gathered.committed(commit)))
            }
            ReplicationMessage::StreamStart { xid, .. } => {
                if self.whole.is_some() || self.block.is_some() {
                    return Err(OutOfOrder("Stream Start"));
                }
                self.block = Some(xid);
                self.streamed.entry(xid).or_default();
                Ok(Step::Nothing)
            }
            ReplicationMessage::StreamStop => {
                self.block.take().ok_or(OutOfOrder("Stream Stop"))?;
                Ok(Step::Nothing)
            }
            ReplicationMessage::StreamCommit { xid, commit } => {
                let gathered = self.streamed.remove(&xid).ok_or(OutOfOrder("Stream Commit"))?;
                Ok(Step::Committed(gathered.committed(commit)))
            }
            ReplicationMessage::StreamAbort { xid, subxid } if xid == subxid => {
                self.streamed.remove(&xid);
                Ok(Step::Nothing)
            }
            ReplicationMessage::StreamAbort { xid, subxid } => {
                if let Some(gathered) = self.streamed.get_mut(&xid) {
                    gathered.changes.retain(|(by, _)| *by != Some(subxid));
                }
                Ok(Step::Nothing)
            }
            ReplicationMessage::Origin => Ok(Step::Nothing),
            // A non-transactional message stands for itself, wherever it arrives.
            ReplicationMessage::Message { transactional: false, .. } => Ok(Step::Loose(message)),
            change => {
                let gathered = match self.block {
                    Some(xid) => self.streamed.get_mut(&xid),
                    None => self.whole.as_mut(),
                };
                let Some(gathered) = gathered else {
                    // A Relation or Type can precede the first transaction.
                    return match change {
                        ReplicationMessage::Relation { .. } | ReplicationMessage::Type { .. } => {
                            Ok(Step::Loose(change))
                        }
                        _ => Err(OutOfOrder("a change")),
                    };
                };
                gathered.add(change, bytes as u64, self.bytes_max);
                Ok(Step::Nothing)
            }
        }
    }
}

impl Gathered {
    fn add(&mut self, change: Change, bytes: u64, bytes_max: u64) {
        let (by, tables): (Option<Xid>, &[TableOid]) = match &change {
            ReplicationMessage::Insert { xid, relation, .. }
            | ReplicationMessage::Update { xid, relation, .. }
            | ReplicationMessage::Delete { xid, relation, .. } => (*xid, std::slice::from_ref(relation)),
            ReplicationMessage::Truncate { xid, relations } => (*xid, relations),
            ReplicationMessage::Relation { xid, .. }
            | ReplicationMessage::Type { xid, .. }
            | ReplicationMessage::Message { xid, .. } => (*xid, &[]),
            _ => (None, &[]),
        };
        self.bytes += bytes;
        if self.bytes > bytes_max && !tables.is_empty() {
            // From here on only which tables it touches is kept. A subtransaction that is rolled
            // back later makes this too much, never too little.
            self.overflowed.extend(tables);
            for (_, earlier) in self.changes.drain(..) {
                match earlier {
                    ReplicationMessage::Insert { relation, .. }
                    | ReplicationMessage::Update { relation, .. }
                    | ReplicationMessage::Delete { relation, .. } => {
                        self.overflowed.insert(relation);
                    }
                    ReplicationMessage::Truncate { relations, .. } => self.overflowed.extend(relations),
                    _ => {}
                }
            }
            return;
        }
        self.changes.push((by, change));
    }

    fn committed(self, commit: Commit) -> Committed {
        Committed { commit, changes: self.changes, overflowed: self.overflowed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        decode::{Begin, Tuple},
        types::Lsn,
    };

    fn insert(xid: Option<u32>, table: u32) -> ReplicationMessage {
        ReplicationMessage::Insert { xid: xid.map(Xid), relation: TableOid(table), new: Tuple::from_iter([]) }
    }

    fn commit(end: u64) -> Commit {
        Commit { commit_lsn: Lsn(end - 1), end_lsn: Lsn(end), timestamp_us: 0 }
    }

    fn begin() -> ReplicationMessage {
        ReplicationMessage::Begin(Begin { final_lsn: Lsn(1), xid: Xid(1) })
    }

    fn tables(step: Result<Step, OutOfOrder>) -> Vec<u32> {
        let Ok(Step::Committed(committed)) = step else { panic!("not a commit: {step:?}") };
        let table = |c: &Change| match c {
            ReplicationMessage::Insert { relation, .. } => relation.0,
            other => panic!("{other:?}"),
        };
        committed.changes.iter().map(|(_, change)| table(change)).collect()
    }

    #[test]
    fn a_transaction_comes_out_whole_at_its_commit() {
        let mut transactions = Transactions::new(1000);
        for message in [begin(), insert(None, 1), insert(None, 2)] {
            assert!(matches!(transactions.take(message, 10), Ok(Step::Nothing)));
        }
        assert!(transactions.is_open());
        assert_eq!(tables(transactions.take(ReplicationMessage::Commit(commit(9)), 10)), [1, 2]);
        assert!(!transactions.is_open());
    }

    #[test]
    fn streamed_transactions_lose_their_rolled_back_parts() {
        let mut transactions = Transactions::new(1000);
        let block = |xid| ReplicationMessage::StreamStart { xid: Xid(xid), first: true };
        for message in [
            block(5),
            insert(Some(5), 1),
            insert(Some(6), 2),
            ReplicationMessage::StreamStop,
            block(8),
            insert(Some(8), 9),
            ReplicationMessage::StreamStop,
            begin(),
            insert(None, 3),
        ] {
            assert!(matches!(transactions.take(message, 10), Ok(Step::Nothing)));
        }
        assert_eq!(tables(transactions.take(ReplicationMessage::Commit(commit(9)), 10)), [3]);
        for message in [
            block(5),
            insert(Some(7), 4),
            insert(Some(5), 5),
            ReplicationMessage::StreamStop,
            ReplicationMessage::StreamAbort { xid: Xid(5), subxid: Xid(6) },
            ReplicationMessage::StreamAbort { xid: Xid(8), subxid: Xid(8) },
        ] {
            assert!(matches!(transactions.take(message, 10), Ok(Step::Nothing)));
        }
        let committed =
            transactions.take(ReplicationMessage::StreamCommit { xid: Xid(5), commit: commit(20) }, 10);
        assert_eq!(tables(committed), [1, 4, 5]);
        let gone =
            transactions.take(ReplicationMessage::StreamCommit { xid: Xid(8), commit: commit(30) }, 10);
        assert!(gone.is_err());
    }

    #[test]
    fn too_large_a_transaction_leaves_its_tables() {
        let mut transactions = Transactions::new(25);
        for message in [begin(), insert(None, 1), insert(None, 2), insert(None, 3), insert(None, 1)] {
            assert!(matches!(transactions.take(message, 10), Ok(Step::Nothing)));
        }
        let step = transactions.take(ReplicationMessage::Commit(commit(9)), 10);
        let Ok(Step::Committed(committed)) = step else { panic!("not a commit: {step:?}") };
        assert!(committed.changes.is_empty());
        assert_eq!(committed.overflowed, HashSet::from([TableOid(1), TableOid(2), TableOid(3)]));
    }

    #[test]
    fn what_is_out_of_order_is_refused() {
        let mut transactions = Transactions::new(1000);
        assert!(transactions.take(insert(None, 1), 1).is_err());
        assert!(transactions.take(ReplicationMessage::StreamStop, 1).is_err());
        assert!(transactions.take(ReplicationMessage::Commit(commit(2)), 1).is_err());
        assert!(transactions.take(begin(), 1).is_ok());
        assert!(transactions.take(begin(), 1).is_err());
    }
}
