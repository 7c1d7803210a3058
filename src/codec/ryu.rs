//! The shortest decimal digits of a float, chosen as PostgreSQL chooses them: Ryu without the bounds
//! of the rounding interval (`src/common/d2s.c`). Other shortest printers differ: they print 1e+23,
//! PostgreSQL 9.999999999999999e+22.

use std::sync::LazyLock;

/// `mantissa * 10^exponent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    pub(super) mantissa: u64,
    pub(super) exponent: i32,
}

/// The layout of an IEEE format.
#[derive(Clone, Copy)]
pub(super) struct Format {
    pub(super) mantissa_bits: u32,
    pub(super) bias: i32,
}

const POW5_INV_BITCOUNT: i32 = 122;
const POW5_BITCOUNT: i32 = 121;

/// Powers of five to 121 bits and their inverses to 122 bits, as `d2s_full_table.h` lists them;
/// computed once, at the first float that is written.
struct Tables {
    pow5: Vec<u128>,
    pow5_inv: Vec<u128>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(Tables::compute);

/// The shortest decimal inside the interval that reads back as the float with these bits; the float
/// is finite and not zero.
pub(super) fn shortest(format: Format, ieee_mantissa: u64, ieee_exponent: u32) -> Decimal {
    let mantissa_bits = format.mantissa_bits as i32;
    if let Some(integer) = small_integer(format, ieee_mantissa, ieee_exponent) {
        return Decimal { mantissa: integer, exponent: 0 };
    }

    // Two is subtracted so that the bounds have two more bits.
    let (m2, e2) = if ieee_exponent == 0 {
        (ieee_mantissa, 1 - format.bias - mantissa_bits - 2)
    } else {
        let m2 = (1u64 << format.mantissa_bits) | ieee_mantissa;
        (m2, ieee_exponent as i32 - format.bias - mantissa_bits - 2)
    };
    let mv = 4 * m2;
    // The interval is narrower below a power of two.
    let mm = mv - 1 - u64::from(ieee_mantissa != 0 || ieee_exponent <= 1);
    let mp = mv + 2;

    let tables = &*TABLES;
    let mut vr_is_trailing_zeros = false;
    let (mut vr, mut vp, mut vm, e10);
    if e2 >= 0 {
        let q = log10_pow2(e2) - i32::from(e2 > 3);
        let shift = -e2 + q + POW5_INV_BITCOUNT + pow5_bits(q) - 1;
        let factor = tables.pow5_inv.get(q as usize).copied().unwrap_or_default();
        e10 = q;
        vr = mul_shift(mv, factor, shift);
        vp = mul_shift(mp, factor, shift);
        vm = mul_shift(mm, factor, shift);
        if q <= 21 {
            if mv.is_multiple_of(5) {
                vr_is_trailing_zeros = is_multiple_of_pow5(mv, q);
            } else if is_multiple_of_pow5(mp, q) {
                vp -= 1;
            }
        }
    } else {
        let q = log10_pow5(-e2) - i32::from(-e2 > 1);
        let i = -e2 - q;
        let shift = q - (pow5_bits(i) - POW5_BITCOUNT);
        let factor = tables.pow5.get(i as usize).copied().unwrap_or_default();
        e10 = q + e2;
        vr = mul_shift(mv, factor, shift);
        vp = mul_shift(mp, factor, shift);
        vm = mul_shift(mm, factor, shift);
        if q <= 1 {
            vr_is_trailing_zeros = true;
            vp = vp.saturating_sub(1);
        } else if q < 63 {
            vr_is_trailing_zeros = mv.trailing_zeros() as i32 >= q - 1;
        }
    }

    let mut removed = 0;
    let mut last_removed = 0;
    while vp / 10 > vm / 10 {
        vr_is_trailing_zeros &= last_removed == 0;
        last_removed = vr % 10;
        vr /= 10;
        vp /= 10;
        vm /= 10;
        removed += 1;
    }
    if vr_is_trailing_zeros && last_removed == 5 && vr.is_multiple_of(2) {
        // The exact value ends in 5 and zeros: round to even.
        last_removed = 4;
    }
    let mantissa = vr + u64::from(vr == vm || last_removed >= 5);
    Decimal { mantissa, exponent: e10 + removed }
}

/// Integers that the mantissa holds exactly are printed exactly (`d2d_small_int`).
fn small_integer(format: Format, ieee_mantissa: u64, ieee_exponent: u32) -> Option<u64> {
    let e2 = ieee_exponent as i32 - format.bias - format.mantissa_bits as i32;
    if e2 > 0 || e2 < -(format.mantissa_bits as i32) {
        return None;
    }
    let fraction = ieee_mantissa & ((1u64 << -e2) - 1);
    (fraction == 0).then_some(((1u64 << format.mantissa_bits) | ieee_mantissa) >> -e2)
}

fn mul_shift(m: u64, factor: u128, shift: i32) -> u64 {
    let low = u128::from(m) * u128::from(factor as u64);
    let high = u128::from(m) * (factor >> 64);
    (((low >> 64) + high) >> ((shift - 64) as u32 & 127)) as u64
}

fn is_multiple_of_pow5(mut value: u64, power: i32) -> bool {
    for _ in 0..power {
        if !value.is_multiple_of(5) {
            return false;
        }
        value /= 5;
    }
    true
}

fn pow5_bits(e: i32) -> i32 {
    ((e * 1_217_359) >> 19) + 1
}

fn log10_pow2(e: i32) -> i32 {
    (e * 78_913) >> 18
}

fn log10_pow5(e: i32) -> i32 {
    (e * 732_923) >> 20
}

impl Tables {
    fn compute() -> Tables {
        let mut power = Wide::one();
        let (mut pow5, mut pow5_inv) = (Vec::new(), Vec::new());
        for i in 0..342 {
            let bits = pow5_bits(i);
            pow5.push(power.top_bits(bits, POW5_BITCOUNT));
            pow5_inv.push(power.inverse(bits));
            power.multiply_by_five();
        }
        Tables { pow5, pow5_inv }
    }
}

/// An unsigned integer of 832 bits, least significant word first: 5^342 and a bit more.
#[derive(Clone, Copy)]
struct Wide([u64; 13]);

impl Wide {
    fn one() -> Wide {
        let mut words = [0; 13];
        if let Some(first) = words.first_mut() {
            *first = 1;
        }
        Wide(words)
    }

    fn multiply_by_five(&mut self) {
        let mut carry = 0u128;
        for word in &mut self.0 {
            let product = u128::from(*word) * 5 + carry;
            *word = product as u64;
            carry = product >> 64;
        }
    }

    fn double(&mut self) {
        let mut carry = 0;
        for word in &mut self.0 {
            let next = *word >> 63;
            *word = (*word << 1) | carry;
            carry = next;
        }
    }

    fn bit(&self, index: i32) -> bool {
        let word = self.0.get((index / 64) as usize).copied().unwrap_or_default();
        word >> (index % 64) & 1 == 1
    }

    /// The first `count` bits of a number of `bits` bits, with zeros after it if it is shorter.
    fn top_bits(&self, bits: i32, count: i32) -> u128 {
        let from = bits - count;
        (from..bits).rev().fold(0, |acc, i| acc << 1 | u128::from(i >= 0 && self.bit(i)))
    }

    /// Subtracts `other` unless that is larger.
    fn subtract(&mut self, other: &Wide) -> bool {
        if self.0.iter().rev().lt(other.0.iter().rev()) {
            return false;
        }
        let mut borrow = false;
        for (word, by) in self.0.iter_mut().zip(&other.0) {
            let (difference, first) = word.overflowing_sub(*by);
            let (difference, second) = difference.overflowing_sub(u64::from(borrow));
            *word = difference;
            borrow = first || second;
        }
        true
    }

    /// `floor(2^(bits - 1 + 122) / self) + 1` by long division; `self` has `bits` bits.
    fn inverse(&self, bits: i32) -> u128 {
        let mut remainder = Wide::one();
        for _ in 1..bits {
            remainder.double();
        }
        let mut quotient = u128::from(remainder.subtract(self));
        for _ in 0..POW5_INV_BITCOUNT {
            remainder.double();
            quotient = quotient << 1 | u128::from(remainder.subtract(self));
        }
        quotient + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_those_of_the_published_source() {
        let split = |low: u64, high: u64| u128::from(high) << 64 | u128::from(low);
        // First, second and last entries of DOUBLE_POW5_INV_SPLIT and DOUBLE_POW5_SPLIT.
        assert_eq!(TABLES.pow5_inv[0], split(1, 288_230_376_151_711_744));
        assert_eq!(TABLES.pow5_inv[1], split(3_689_348_814_741_910_324, 230_584_300_921_369_395));
        assert_eq!(TABLES.pow5[0], split(0, 72_057_594_037_927_936));
        assert_eq!(TABLES.pow5[1], split(0, 90_071_992_547_409_920));
    }
}
