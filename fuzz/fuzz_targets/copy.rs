//! A binary COPY stream, its rows as columns of every type: the first byte chooses where they begin, the
//! second how many there are, the third how the stream is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use millpond_fuzz::{
    decode::{CopyDecoder, RowDecoder},
    samples,
};

fuzz_target!(|bytes: &[u8]| {
    let Some((&[from, count, cut], rest)) = bytes.split_first_chunk::<3>() else { return };
    let types = samples::types();
    let from = usize::from(from) % types.len();
    let chosen: Vec<_> = types.iter().cycle().skip(from).take(usize::from(count) % 8 + 1).cloned().collect();
    let mut rows = RowDecoder::for_copy(&samples::table(&chosen), cut & 0x80 != 0);
    let mut decoder = CopyDecoder::default();
    for part in [b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"]
        .map(|header| &header[..])
        .into_iter()
        .chain(rest.chunks(usize::from(cut).max(1)))
    {
        let mut seen = 0u64;
        let taken = decoder.tuples(part, |tuple| {
            seen += 1;
            rows.copied(tuple, |position, _| assert!(position < chosen.len()))
        });
        match taken {
            Ok(taken) => assert_eq!(taken, seen),
            Err(_) => return,
        }
    }
});
