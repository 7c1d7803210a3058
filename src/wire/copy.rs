//! COPY .. TO STDOUT of rows in memory, as PostgreSQL's `copyto.c` writes them.

use bytes::{BufMut, BytesMut};

use super::backend;
use crate::{
    codec::{CodecError, write_binary, write_text},
    query::{CopyFormat, CopyOptions, ForceQuote, Plan, ResultRow},
};

/// What a binary copy begins with: the signature, no flags, no extension.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// A copy that is being written.
pub(super) struct CopyOut {
    options: CopyOptions,
    /// Columns whose values are always quoted.
    forced: Vec<bool>,
    /// The binary signature, which goes out with what comes first.
    signature: &'static [u8],
    /// One value as text.
    value: BytesMut,
}

impl CopyOut {
    /// `None` for options that name columns which are not there.
    pub(super) fn new(options: &CopyOptions, plan: &Plan) -> Option<CopyOut> {
        let columns = plan.columns();
        let forced = match &options.force_quote {
            ForceQuote::All => vec![true; columns.len()],
            ForceQuote::Columns(names) => {
                if !names.iter().all(|name| columns.iter().any(|c| c.name == *name)) {
                    return None;
                }
                columns.iter().map(|c| names.contains(&c.name)).collect()
            }
        };
        let signature = if options.format == CopyFormat::Binary { SIGNATURE } else { b"" };
        Some(CopyOut { options: options.clone(), forced, signature, value: BytesMut::new() })
    }

    pub(super) fn is_binary(&self) -> bool {
        self.options.format == CopyFormat::Binary
    }

    /// CopyOutResponse, and the header line.
    pub(super) fn begin(&self, plan: &Plan, out: &mut BytesMut) {
        let binary = self.is_binary();
        let columns = plan.columns();
        backend::message(out, b'H', |out| {
            out.put_u8(u8::from(binary));
            out.put_u16(u16::try_from(columns.len()).unwrap_or(u16::MAX));
            columns.iter().for_each(|_| out.put_u16(u16::from(binary)));
        });
        if self.options.header {
            backend::message(out, b'd', |out| {
                for (i, column) in columns.iter().enumerate() {
                    if i > 0 {
                        out.put_u8(self.options.delimiter);
                    }
                    self.put_csv(column.name.as_bytes(), false, columns.len() == 1, out);
                }
                out.put_u8(b'\n');
            });
        }
    }

    /// The trailer and CopyDone.
    pub(super) fn end(&mut self, out: &mut BytesMut) {
        if self.is_binary() {
            let signature = std::mem::take(&mut self.signature);
            backend::message(out, b'd', |out| {
                out.put_slice(signature);
                out.put_i16(-1);
            });
        }
        out.put_slice(b"c\0\0\0\x04");
    }

    /// One CopyData.
    pub(super) fn write_row(
        &mut self,
        plan: &Plan,
        row: &ResultRow<'_>,
        out: &mut BytesMut,
    ) -> Result<(), CodecError> {
        out.put_u8(b'd');
        let start = out.len();
        out.put_u32(0);
        let mut value = std::mem::take(&mut self.value);
        let written = match self.options.format {
            CopyFormat::Binary => self.write_binary(plan, row, out),
            CopyFormat::Text | CopyFormat::Csv => self.write_line(plan, row, &mut value, out),
        };
        self.value = value;
        written?;
        backend::patch_length(out, start, out.len() - start);
        self.signature = b"";
        Ok(())
    }

    fn write_binary(&self, plan: &Plan, row: &ResultRow<'_>, out: &mut BytesMut) -> Result<(), CodecError> {
        let columns = plan.columns();
        out.put_slice(self.signature);
        out.put_u16(u16::try_from(columns.len()).unwrap_or(u16::MAX));
        for (i, column) in columns.iter().enumerate() {
            let datum = row.datum(i);
            if datum.is_null() {
                out.put_i32(-1);
                continue;
            }
            let length = out.len();
            out.put_u32(0);
            write_binary(&column.pg_type, &datum, out)?;
            backend::patch_length(out, length, out.len() - length - 4);
        }
        Ok(())
    }

    fn write_line(
        &self,
        plan: &Plan,
        row: &ResultRow<'_>,
        value: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<(), CodecError> {
        let columns = plan.columns();
        for (i, column) in columns.iter().enumerate() {
            if i > 0 {
                out.put_u8(self.options.delimiter);
            }
            let datum = row.datum(i);
            if datum.is_null() {
                out.put_slice(self.options.null.as_bytes());
                continue;
            }
            value.clear();
            write_text(&column.pg_type, column.typmod, &datum, value)?;
            match self.options.format {
                CopyFormat::Csv => {
                    let forced = self.forced.get(i).copied().unwrap_or(false);
                    self.put_csv(value, forced, columns.len() == 1, out);
                }
                _ => self.put_text(value, out),
            }
        }
        out.put_u8(b'\n');
        Ok(())
    }

    /// `CopyAttributeOutText`.
    fn put_text(&self, value: &[u8], out: &mut BytesMut) {
        for &byte in value {
            let letter = match byte {
                0x08 => b'b',
                0x0c => b'f',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                0x0b => b'v',
                _ if byte == b'\\' || byte == self.options.delimiter => byte,
                _ => {
                    out.put_u8(byte);
                    continue;
                }
            };
            out.put_slice(&[b'\\', letter]);
        }
    }

    /// `CopyAttributeOutCSV`; `alone` for the only column.
    fn put_csv(&self, value: &[u8], forced: bool, alone: bool, out: &mut BytesMut) {
        let CopyOptions { delimiter, quote, escape, null, .. } = &self.options;
        let special = |b: &u8| b == delimiter || b == quote || *b == b'\n' || *b == b'\r';
        // A lone \. would end the data.
        let quoted =
            forced || value == null.as_bytes() || (alone && value == b"\\.") || value.iter().any(special);
        if !quoted {
            out.put_slice(value);
            return;
        }
        out.put_u8(*quote);
        for &byte in value {
            if byte == *quote || byte == *escape {
                out.put_u8(*escape);
            }
            out.put_u8(byte);
        }
        out.put_u8(*quote);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(format: CopyFormat, delimiter: u8, escape: u8) -> CopyOut {
        let options = CopyOptions {
            format,
            delimiter,
            null: if format == CopyFormat::Csv { "" } else { "\\N" }.to_owned(),
            header: false,
            quote: b'"',
            escape,
            force_quote: ForceQuote::Columns(Vec::new()),
        };
        CopyOut { options, forced: Vec::new(), signature: b"", value: BytesMut::new() }
    }

    #[test]
    fn text_is_escaped() {
        let mut out = BytesMut::new();
        copy(CopyFormat::Text, b'|', b'"').put_text(b"a\tb\\c|d\ne\x01\x0b\"", &mut out);
        assert_eq!(out.escape_ascii().to_string(), r#"a\\tb\\\\c\\|d\\ne\x01\\v\""#);
    }

    #[test]
    fn csv_is_quoted_where_it_must_be() {
        for (value, forced, alone, expected) in [
            ("plain", false, false, "plain"),
            ("plain", true, false, "\"plain\""),
            ("", false, false, "\"\""),
            ("a,b", false, false, "\"a,b\""),
            ("a\"b", false, false, "\"a\"\"b\""),
            ("a\nb", false, false, "\"a\nb\""),
            ("\\.", false, true, "\"\\.\""),
            ("\\.", false, false, "\\."),
        ] {
            let mut out = BytesMut::new();
            copy(CopyFormat::Csv, b',', b'"').put_csv(value.as_bytes(), forced, alone, &mut out);
            assert_eq!(std::str::from_utf8(&out), Ok(expected), "{value}");
        }
        let mut out = BytesMut::new();
        copy(CopyFormat::Csv, b',', b'\\').put_csv(b"a\"\\", false, false, &mut out);
        assert_eq!(&out[..], b"\"a\\\"\\\\\"");
    }
}
