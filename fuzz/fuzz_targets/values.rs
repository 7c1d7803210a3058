//! Values of every type, by their text and by their wire form. What was read is written both ways and
//! read again: the value does not change.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use millpond_fuzz::{
    codec::{read_binary, read_text, write_binary, write_text},
    samples,
};

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, value)) = bytes.split_first() else { return };
    let types = samples::types();
    let ty = &types[usize::from(choice & 0x7f) % types.len()];
    let mut scratch = Vec::new();
    let read = match choice & 0x80 {
        0 => read_text(ty, value, &mut scratch),
        _ => read_binary(ty, value),
    };
    let Ok(datum) = read else { return };
    let (mut text, mut wire, mut again) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
    let written = write_text(ty, -1, &datum, &mut text).is_ok();
    if write_binary(ty, &datum, &mut wire).is_ok() {
        let back = read_binary(ty, &wire).expect("what we wrote can be read");
        write_binary(ty, &back, &mut again).expect("and written again");
        assert_eq!(wire, again, "{:?}", ty.kind);
    }
    let mut other = Vec::new();
    if written && choice & 0x80 == 0 {
        let back = read_text(ty, &text, &mut other).expect("our own text can be read");
        let mut same = BytesMut::new();
        write_text(ty, -1, &back, &mut same).expect("and written again");
        assert_eq!(text, same, "{:?}", ty.kind);
    }
});
