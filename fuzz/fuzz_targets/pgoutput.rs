//! Messages of the stream, and rows out of their tuples. Each message is behind a length of one byte.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millpond_fuzz::{
    decode::{Decoder, ReplicationMessage, RowDecoder, Tuple},
    samples,
};

fuzz_target!(|bytes: &[u8]| {
    let types = samples::types();
    let mut decoder = Decoder::default();
    let mut rest = bytes;
    while let Some((&length, behind)) = rest.split_first() {
        let (message, behind) = behind.split_at(usize::from(length).min(behind.len()));
        rest = behind;
        match decoder.decode(Bytes::copy_from_slice(message)) {
            Ok(ReplicationMessage::Insert { new, .. } | ReplicationMessage::Update { new, .. }) => {
                let count = new.values().count();
                assert_eq!(count, new.len());
                let again: Tuple = new.values().collect();
                assert!(again.values().eq(new.values()), "a tuple is what it is made of");
                let table = samples::table(types.get(..count).unwrap_or(types));
                let mut rows = RowDecoder::for_copy(&table, false);
                let _ = rows.row(&new, Vec::new(), |_| None).map(|row| row.len());
            }
            Ok(ReplicationMessage::Relation { relation, .. }) => {
                let _ = RowDecoder::for_relation(&samples::table(types), &relation).is_some();
            }
            Ok(_) | Err(_) => {}
        }
    }
});
