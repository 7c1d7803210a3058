//! What `apply` knows of one table: how its changes are decoded, and where it is in its life.

use std::{mem, sync::Arc};

use super::transaction::Change;
use crate::{
    decode::{OldTuple, Relation, ReplicationMessage, RowDecoder},
    store::{RowRef, StoreError, TableImage, Writer},
    types::{Datum, Lsn, ReplicaIdentity, TableOid, TableSchema},
};

/// A table that the stream changes.
#[derive(Debug)]
pub(super) struct AppliedTable {
    schema: Arc<TableSchema>,
    /// What the stream last said of it, and the decoder made from that.
    relation: Option<Arc<Relation>>,
    decoder: Option<RowDecoder>,
    pub(super) life: Life,
    /// The copy holds every transaction that committed before this: they are not applied again.
    copied_at: Lsn,
    pub(super) changed_at: Option<Lsn>,
    /// The memory of the last row, for the next.
    spare: Vec<Datum<'static>>,
}

/// Where the table is. Its public name is `telemetry::status::TableState`.
#[derive(Debug)]
pub(super) enum Life {
    /// Changes are applied and queries answered.
    Live,
    /// Its changes cannot be applied; nothing is kept of them. Ends when a copy begins.
    Quarantined,
    /// Being copied: changes wait, with the position of their commit.
    Copying(Vec<Pending>),
    /// Copied at a snapshot that the stream has not reached yet.
    Copied { image: Box<TableImage>, at: Lsn, pending: Vec<Pending> },
}

/// The changes of one committed transaction, or a new description of the table.
#[derive(Debug)]
pub(super) struct Pending {
    commit_lsn: Lsn,
    change: Change,
    relation: Option<Arc<Relation>>,
}

/// Why a change could not be applied. The table is copied again.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    #[error("its columns or replica identity have changed")]
    Reshaped,
    #[error("the stream changed it before describing it")]
    Undescribed,
    #[error(transparent)]
    Decode(#[from] crate::decode::DecodeError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AppliedTable {
    /// A table whose rows, as of `copied_at`, are in the store.
    pub(super) fn live(schema: Arc<TableSchema>, copied_at: Lsn) -> AppliedTable {
        AppliedTable {
            schema,
            relation: None,
            decoder: None,
            life: Life::Live,
            copied_at,
            changed_at: None,
            spare: Vec::new(),
        }
    }

    /// A table that is about to be copied.
    pub(super) fn copying(schema: Arc<TableSchema>) -> AppliedTable {
        AppliedTable { life: Life::Copying(Vec::new()), ..AppliedTable::live(schema, Lsn::ZERO) }
    }

    pub(super) fn oid(&self) -> TableOid {
        self.schema.oid
    }

    pub(super) fn name(&self) -> String {
        self.schema.display_name()
    }

    /// Begins to keep changes for the end of a copy that is about to start.
    pub(super) fn begin_copy(&mut self, schema: Arc<TableSchema>) {
        self.schema = schema;
        self.decoder = None;
        self.life = Life::Copying(Vec::new());
    }

    /// The stream describes the table anew. Takes effect with the next change.
    pub(super) fn describe(&mut self, relation: &Relation) {
        self.relation = Some(Arc::new(relation.clone()));
        self.decoder = None;
    }

    /// Applies or keeps one change of a transaction that committed at `commit_lsn`.
    pub(super) fn change(
        &mut self,
        writer: &mut Writer,
        commit_lsn: Lsn,
        change: Change,
    ) -> Result<(), ApplyError> {
        match &mut self.life {
            Life::Quarantined => Ok(()),
            Life::Copying(pending) | Life::Copied { pending, .. } => {
                pending.push(Pending { commit_lsn, change, relation: self.relation.clone() });
                Ok(())
            }
            Life::Live if commit_lsn < self.copied_at => Ok(()),
            Life::Live => self.apply(writer, &change),
        }
    }

    /// The copy is done: the rows are those of the snapshot at `at`.
    pub(super) fn copied(&mut self, image: TableImage, at: Lsn) {
        if let Life::Copying(pending) = &mut self.life {
            let pending = mem::take(pending);
            self.schema = Arc::clone(image.schema());
            self.decoder = None;
            self.life = Life::Copied { image: Box::new(image), at, pending };
        }
    }

    /// Puts a finished copy in place once everything up to its snapshot has been applied elsewhere
    /// too; says whether the table went live. The caller publishes.
    pub(super) fn catch_up(&mut self, writer: &mut Writer, reached: Lsn) -> Result<bool, ApplyError> {
        match &self.life {
            Life::Copied { at, .. } if *at <= reached => {}
            _ => return Ok(false),
        }
        let Life::Copied { image, at, pending } = mem::replace(&mut self.life, Life::Live) else {
            return Ok(false);
        };
        writer.load(*image);
        self.copied_at = at;
        let latest = self.relation.clone();
        for Pending { commit_lsn, change, relation } in pending {
            if commit_lsn < at {
                continue;
            }
            if relation != self.relation {
                self.relation = relation;
                self.decoder = None;
            }
            self.apply(writer, &change)?;
        }
        if latest != self.relation {
            self.relation = latest;
            self.decoder = None;
        }
        Ok(true)
    }

    fn apply(&mut self, writer: &mut Writer, change: &Change) -> Result<(), ApplyError> {
        let oid = self.schema.oid;
        if let ReplicationMessage::Truncate { .. } = change {
            return Ok(writer.truncate(oid)?);
        }
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            none => {
                let relation = self.relation.as_ref().ok_or(ApplyError::Undescribed)?;
                let decoder = RowDecoder::for_relation(&self.schema, relation);
                none.insert(decoder.ok_or(ApplyError::Reshaped)?)
            }
        };
        let key: Option<&[usize]> = match &self.schema.identity {
            ReplicaIdentity::Key(key) => Some(key),
            // All columns are.
            ReplicaIdentity::Full | ReplicaIdentity::Nothing => None,
        };
        let spare = &mut self.spare;
        let mut find = |writer: &Writer, tuple| -> Result<RowRef, ApplyError> {
            let identity = match key {
                Some(key) => decoder.key(tuple, key, mem::take(spare))?,
                None => decoder.row(tuple, mem::take(spare), |_| None)?,
            };
            let found = writer.find(oid, &identity);
            *spare = emptied(identity);
            Ok(found?)
        };
        match change {
            ReplicationMessage::Insert { new, .. } => {
                let row = decoder.row(new, mem::take(&mut self.spare), |_| None)?;
                writer.insert(oid, &row)?;
                self.spare = emptied(row);
            }
            ReplicationMessage::Update { old, new, .. } => {
                let found = match old {
                    Some(OldTuple::Key(tuple) | OldTuple::Full(tuple)) => find(writer, tuple)?,
                    // The key did not change, so the new row has it.
                    None => find(writer, new)?,
                };
                let row = decoder.row(new, mem::take(&mut self.spare), |column| Some(found.datum(column)))?;
                writer.update(oid, &found, &row)?;
                self.spare = emptied(row);
            }
            ReplicationMessage::Delete { old: OldTuple::Key(tuple) | OldTuple::Full(tuple), .. } => {
                let found = find(writer, tuple)?;
                writer.delete(oid, &found)?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// The memory of a row without what it borrowed.
fn emptied(mut row: Vec<Datum<'_>>) -> Vec<Datum<'static>> {
    row.clear();
    // There is nothing to map: it tells the compiler so, which keeps the allocation.
    row.into_iter().map(|_| Datum::Null).collect()
}
