//! Positions in the primary's write-ahead log.

use std::{fmt, str::FromStr};

/// A byte position in the primary's write-ahead log. Printed and parsed as `%X/%X`
/// (`src/backend/utils/adt/pg_lsn.c`); never compared as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// `0/0`, PostgreSQL's invalid position.
    pub const ZERO: Lsn = Lsn(0);

    /// Bytes from `earlier` to `self`, zero when `self` is not ahead.
    pub fn bytes_since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// The text is not an LSN such as `16/B374D848`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an LSN is two hexadecimal numbers with a slash between, such as 16/B374D848")]
pub struct ParseLsnError;

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(s: &str) -> Result<Lsn, ParseLsnError> {
        let (high, low) = s.split_once('/').ok_or(ParseLsnError)?;
        let part = |digits: &str| {
            if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(ParseLsnError);
            }
            u64::from_str_radix(digits, 16).map_err(|_| ParseLsnError)
        };
        Ok(Lsn((part(high)? << 32) | part(low)?))
    }
}

#[cfg(test)]
mod tests {
    use super::Lsn;

    #[test]
    fn prints_and_parses_as_postgres() {
        let lsn = Lsn(0x16_B374_D848);
        assert_eq!(lsn.to_string(), "16/B374D848");
        assert_eq!("16/B374D848".parse(), Ok(lsn));
        assert_eq!("0/00000000".parse(), Ok(Lsn::ZERO));
        for bad in ["", "/", "1/", "/1", "1/1/1", "g/1", "123456789/0", "+1/0", "0/ 1"] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad}");
        }
    }
}
