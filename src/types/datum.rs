//! One value of one column, as the store holds it.

/// A value in the store's own representation. Which variant a type uses is
/// [`Physical`](super::Physical); what the bytes of `Bytes` mean is the type's binary wire format
/// (its send function) unless the type is [`TypeKind::Opaque`](super::TypeKind::Opaque), whose bytes
/// are the server's text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Datum<'a> {
    Null,
    Bool(bool),
    Int2(i16),
    Int4(i32),
    Int8(i64),
    /// `oid`, `xid`, `cid`: unsigned 32 bits.
    Oid(u32),
    Float4(f32),
    Float8(f64),
    Uuid([u8; 16]),
    Bytes(&'a [u8]),
}

impl Datum<'_> {
    pub fn is_null(&self) -> bool {
        matches!(self, Datum::Null)
    }

    /// The same bits: what tells rows apart when the stream names one, unlike SQL equality
    /// (`1.0` and `1.00` differ here, a NaN equals itself).
    pub fn identical(&self, other: &Datum<'_>) -> bool {
        match (self, other) {
            (Datum::Float4(a), Datum::Float4(b)) => a.to_bits() == b.to_bits(),
            (Datum::Float8(a), Datum::Float8(b)) => a.to_bits() == b.to_bits(),
            (a, b) => a == b,
        }
    }
}
