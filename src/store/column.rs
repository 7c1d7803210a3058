//! One column of a sealed chunk: contiguous values in Arrow's layout (values or offsets and bytes,
//! and a validity bitmap with one bit a row, least significant first).

use crate::types::{Datum, Physical};

#[derive(Debug)]
pub(super) struct Column {
    values: Values,
    /// `None` when the column has no NULL. A set bit is a value.
    validity: Option<Box<[u64]>>,
}

#[derive(Debug)]
enum Values {
    Bool(Box<[bool]>),
    I16(Box<[i16]>),
    I32(Box<[i32]>),
    I64(Box<[i64]>),
    U32(Box<[u32]>),
    F32(Box<[f32]>),
    F64(Box<[f64]>),
    Fixed16(Box<[[u8; 16]]>),
    /// `offsets[i]..offsets[i + 1]` in `data`.
    Bytes {
        offsets: Box<[u32]>,
        data: Box<[u8]>,
    },
}

impl Column {
    pub(super) fn datum(&self, row: usize) -> Datum<'_> {
        if let Some(validity) = &self.validity
            && validity[row / 64] >> (row % 64) & 1 == 0
        {
            return Datum::Null;
        }
        match &self.values {
            Values::Bool(v) => Datum::Bool(v[row]),
            Values::I16(v) => Datum::Int2(v[row]),
            Values::I32(v) => Datum::Int4(v[row]),
            Values::I64(v) => Datum::Int8(v[row]),
            Values::U32(v) => Datum::Oid(v[row]),
            Values::F32(v) => Datum::Float4(v[row]),
            Values::F64(v) => Datum::Float8(v[row]),
            Values::Fixed16(v) => Datum::Uuid(v[row]),
            Values::Bytes { offsets, data } => {
                Datum::Bytes(&data[offsets[row] as usize..offsets[row + 1] as usize])
            }
        }
    }

    /// Heap bytes held.
    pub(super) fn bytes(&self) -> usize {
        let validity = self.validity.as_ref().map_or(0, |v| v.len() * 8);
        validity
            + match &self.values {
                Values::Bool(v) => v.len(),
                Values::I16(v) => v.len() * 2,
                Values::I32(v) => v.len() * 4,
                Values::I64(v) => v.len() * 8,
                Values::U32(v) => v.len() * 4,
                Values::F32(v) => v.len() * 4,
                Values::F64(v) => v.len() * 8,
                Values::Fixed16(v) => v.len() * 16,
                Values::Bytes { offsets, data } => offsets.len() * 4 + data.len(),
            }
    }
}

/// A column that is being filled.
#[derive(Debug)]
pub(super) struct ColumnBuilder {
    values: Building,
    validity: Vec<u64>,
    rows: usize,
    nulls: usize,
}

#[derive(Debug)]
enum Building {
    Bool(Vec<bool>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    U32(Vec<u32>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Fixed16(Vec<[u8; 16]>),
    Bytes { offsets: Vec<u32>, data: Vec<u8> },
}

impl ColumnBuilder {
    pub(super) fn new(physical: Physical) -> ColumnBuilder {
        let values = match physical {
            Physical::Bool => Building::Bool(Vec::new()),
            Physical::I16 => Building::I16(Vec::new()),
            Physical::I32 => Building::I32(Vec::new()),
            Physical::I64 => Building::I64(Vec::new()),
            Physical::U32 => Building::U32(Vec::new()),
            Physical::F32 => Building::F32(Vec::new()),
            Physical::F64 => Building::F64(Vec::new()),
            Physical::Fixed16 => Building::Fixed16(Vec::new()),
            Physical::Bytes => Building::Bytes { offsets: vec![0], data: Vec::new() },
        };
        ColumnBuilder { values, validity: Vec::new(), rows: 0, nulls: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// Appends one value. A datum of another representation than the column's is an error of the
    /// caller's, stored as NULL in release and caught in debug.
    pub(super) fn push(&mut self, datum: &Datum<'_>) {
        let null = datum.is_null();
        if self.rows.is_multiple_of(64) {
            self.validity.push(0);
        }
        if null {
            self.nulls += 1;
        } else if let Some(word) = self.validity.last_mut() {
            *word |= 1 << (self.rows % 64);
        }
        self.rows += 1;
        match (&mut self.values, datum) {
            (Building::Bool(v), Datum::Bool(d)) => v.push(*d),
            (Building::I16(v), Datum::Int2(d)) => v.push(*d),
            (Building::I32(v), Datum::Int4(d)) => v.push(*d),
            (Building::I64(v), Datum::Int8(d)) => v.push(*d),
            (Building::U32(v), Datum::Oid(d)) => v.push(*d),
            (Building::F32(v), Datum::Float4(d)) => v.push(*d),
            (Building::F64(v), Datum::Float8(d)) => v.push(*d),
            (Building::Fixed16(v), Datum::Uuid(d)) => v.push(*d),
            (Building::Bytes { offsets, data }, Datum::Bytes(d)) => {
                data.extend_from_slice(d);
                offsets.push(data.len() as u32);
            }
            (values, datum) => {
                debug_assert!(datum.is_null(), "{datum:?} in another representation than its column");
                match values {
                    Building::Bool(v) => v.push(false),
                    Building::I16(v) => v.push(0),
                    Building::I32(v) => v.push(0),
                    Building::I64(v) => v.push(0),
                    Building::U32(v) => v.push(0),
                    Building::F32(v) => v.push(0.0),
                    Building::F64(v) => v.push(0.0),
                    Building::Fixed16(v) => v.push([0; 16]),
                    Building::Bytes { offsets, data } => offsets.push(data.len() as u32),
                }
            }
        }
    }

    pub(super) fn finish(self) -> Column {
        let values = match self.values {
            Building::Bool(v) => Values::Bool(v.into()),
            Building::I16(v) => Values::I16(v.into()),
            Building::I32(v) => Values::I32(v.into()),
            Building::I64(v) => Values::I64(v.into()),
            Building::U32(v) => Values::U32(v.into()),
            Building::F32(v) => Values::F32(v.into()),
            Building::F64(v) => Values::F64(v.into()),
            Building::Fixed16(v) => Values::Fixed16(v.into()),
            Building::Bytes { offsets, data } => Values::Bytes { offsets: offsets.into(), data: data.into() },
        };
        let validity = (self.nulls > 0).then(|| self.validity.into());
        Column { values, validity }
    }
}
