//! `inet`, `cidr`, `macaddr` and `macaddr8`.

use std::{
    fmt::Write,
    net::{Ipv4Addr, Ipv6Addr},
};

use bytes::{BufMut, BytesMut};

use super::{
    CodecError, Result, bytea,
    cursor::Cursor,
    integer::{parse_u64, write_u64},
};

/// `PGSQL_AF_INET` (the usual `AF_INET`) and the number after it.
const FAMILY_V4: u8 = 2;
const FAMILY_V6: u8 = 3;

const EXPECTED: CodecError = CodecError::Malformed("a network address");

enum Address {
    V4([u8; 4]),
    V6([u8; 16]),
}

struct Network {
    address: Address,
    /// Length of the netmask.
    bits: u8,
}

fn parts(bytes: &[u8]) -> Result<Network> {
    let mut cursor = Cursor::new(bytes);
    let (family, bits, is_cidr, len) = (cursor.u8()?, cursor.u8()?, cursor.u8()?, cursor.u8()?);
    let address = match (family, len) {
        (FAMILY_V4, 4) => Address::V4(cursor.u32()?.to_be_bytes()),
        (FAMILY_V6, 16) => {
            let (high, low) = (cursor.u64()?, cursor.u64()?);
            Address::V6((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
        }
        _ => return Err(EXPECTED),
    };
    cursor.finish()?;
    let network = Network { address, bits };
    if bits > network.max_bits() || is_cidr > 1 { Err(EXPECTED) } else { Ok(network) }
}

impl Network {
    fn max_bits(&self) -> u8 {
        match self.address {
            Address::V4(_) => 32,
            Address::V6(_) => 128,
        }
    }

    /// Whether no bit is set to the right of the netmask, as a `cidr` demands.
    fn is_network(&self) -> bool {
        let host = match self.address {
            Address::V4(octets) => u128::from(u32::from_be_bytes(octets)) << 96,
            Address::V6(octets) => u128::from_be_bytes(octets),
        };
        host.checked_shl(u32::from(self.bits)).unwrap_or(0) == 0
    }
}

/// The flag that tells `cidr` from `inet` must be the type's own: it is part of what is sent.
pub(super) fn check(bytes: &[u8], cidr: bool) -> Result<()> {
    let network = parts(bytes)?;
    let flag = bytes.get(2) == Some(&u8::from(cidr));
    if flag && (!cidr || network.is_network()) { Ok(()) } else { Err(EXPECTED) }
}

/// `inet_out` and `cidr_out`.
pub(super) fn write_text(bytes: &[u8], cidr: bool, out: &mut BytesMut) -> Result<()> {
    let network = parts(bytes)?;
    match network.address {
        Address::V4([a, b, c, d]) => write_dotted([a, b, c, d], out),
        Address::V6(octets) => write_v6(octets, out),
    }
    if cidr || network.bits != network.max_bits() {
        out.extend_from_slice(b"/");
        write_u64(u64::from(network.bits), out);
    }
    Ok(())
}

fn write_dotted(octets: [u8; 4], out: &mut BytesMut) {
    for (index, octet) in octets.into_iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b".");
        }
        write_u64(u64::from(octet), out);
    }
}

/// `inet_net_ntop_ipv6`: the first longest run of at least two zero words is `::`, and addresses
/// that embed an IPv4 address end with it.
fn write_v6(octets: [u8; 16], out: &mut BytesMut) {
    let words = Ipv6Addr::from(octets).segments();
    let (mut best, mut current) = (0..0, 0..0);
    for (index, word) in words.iter().enumerate() {
        current = if *word != 0 {
            0..0
        } else if current.is_empty() {
            index..index + 1
        } else {
            current.start..index + 1
        };
        if current.len() > best.len() {
            best = current.clone();
        }
    }
    if best.len() < 2 {
        best = 0..0;
    }
    let [.., a, b, c, d] = octets;
    let embeds_v4 = best.start == 0 && (best.len() == 6 || best.len() == 5 && words.get(5) == Some(&0xffff));
    for (index, word) in words.into_iter().enumerate() {
        if best.contains(&index) {
            if index == best.start {
                out.extend_from_slice(b":");
            }
            continue;
        }
        if index != 0 {
            out.extend_from_slice(b":");
        }
        if index == 6 && embeds_v4 {
            write_dotted([a, b, c, d], out);
            break;
        }
        // Writing to a growing buffer cannot fail.
        let _ = write!(out, "{word:x}");
    }
    if best.len() >= 2 && best.end == 8 {
        out.extend_from_slice(b":");
    }
}

/// Appends the wire form.
pub(super) fn read_text(text: &[u8], cidr: bool, out: &mut Vec<u8>) -> Result<()> {
    let text = std::str::from_utf8(text).map_err(|_| EXPECTED)?;
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(parse_u64(bits.as_bytes())?)),
        None => (text, None),
    };
    // A cidr is always written with its netmask.
    if cidr && bits.is_none() {
        return Err(EXPECTED);
    }
    let start = out.len();
    let bits = |max: u8| u8::try_from(bits.unwrap_or(u64::from(max))).map_err(|_| EXPECTED);
    if let Ok(v4) = address.parse::<Ipv4Addr>() {
        out.extend_from_slice(&[FAMILY_V4, bits(32)?, u8::from(cidr), 4]);
        out.extend_from_slice(&v4.octets());
    } else {
        let v6: Ipv6Addr = address.parse().map_err(|_| EXPECTED)?;
        out.extend_from_slice(&[FAMILY_V6, bits(128)?, u8::from(cidr), 16]);
        out.extend_from_slice(&v6.octets());
    }
    check(out.get(start..).unwrap_or_default(), cidr)
}

/// A `macaddr` has 6 bytes, a `macaddr8` 8.
pub(super) fn check_mac(bytes: &[u8], len: usize) -> Result<()> {
    if bytes.len() == len { Ok(()) } else { Err(CodecError::Malformed("a MAC address")) }
}

pub(super) fn write_mac(bytes: &[u8], out: &mut BytesMut) {
    for (index, byte) in bytes.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b":");
        }
        bytea::write_hex(&[*byte], out);
    }
}

pub(super) fn read_mac(text: &[u8], len: usize, out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    for pair in text.split(|byte| *byte == b':') {
        out.put_u8(bytea::read_pair(pair)?);
    }
    check_mac(out.get(start..).unwrap_or_default(), len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_and_read() {
        for (text, cidr) in [
            ("192.168.1.5", false),
            ("192.168.1.5/24", false),
            ("0.0.0.0/0", true),
            ("10.0.0.0/8", true),
            ("1.2.3.4/32", true),
            ("::", false),
            ("::1", false),
            ("::1.2.3.4", false),
            ("::ffff:1.2.3.4/120", false),
            ("::2:0:0:1", false),
            ("1:0:0:2::3", false),
            ("1:0:2:3:4:5:6:7", false),
            ("2001:db8::", false),
            ("2001:db8::/32", true),
            ("fe80::1/128", true),
        ] {
            let (mut wire, mut out) = (Vec::new(), BytesMut::new());
            assert_eq!(read_text(text.as_bytes(), cidr, &mut wire), Ok(()), "{text}");
            write_text(&wire, cidr, &mut out).unwrap();
            assert_eq!(std::str::from_utf8(&out), Ok(text));
        }
        for (bad, cidr) in [
            ("", false),
            ("1.2.3", false),
            ("1.2.3.4/33", false),
            ("1.2.3.4/", false),
            ("1.2.3.4", true),
            ("1.2.3.4/24", true),
            ("1.2.3.4/1000", false),
            ("::/129", false),
            ("::1%eth0", false),
        ] {
            assert!(read_text(bad.as_bytes(), cidr, &mut Vec::new()).is_err(), "{bad}");
        }
    }

    #[test]
    fn mac_addresses_are_written_and_read() {
        for (text, len) in [("08:00:2b:01:02:03", 6), ("08:00:2b:01:02:03:04:ff", 8)] {
            let (mut wire, mut out) = (Vec::new(), BytesMut::new());
            read_mac(text.as_bytes(), len, &mut wire).unwrap();
            write_mac(&wire, &mut out);
            assert_eq!(&out[..], text.as_bytes());
        }
        assert!(read_mac(b"08:00:2b:01:02", 6, &mut Vec::new()).is_err());
        assert!(read_mac(b"0800:2b:01:02:03", 6, &mut Vec::new()).is_err());
    }
}
