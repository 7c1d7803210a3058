//! Copied rows to table images. Consumers run on the copying threads; the applier gets whole images.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use crate::{
    decode::{CopyDecoder, RowDecoder},
    source::{CopyConsumer, CopySink},
    store::{Chunk, ChunkBuilder, TableImage},
    types::{TableOid, TableSchema},
};

/// Collects the chunks of all tables of one copy.
#[derive(Debug)]
pub(super) struct Images {
    as_text: bool,
    tables: Arc<Mutex<HashMap<TableOid, Vec<Chunk>>>>,
}

impl Images {
    /// `binary` says what the stream is made of.
    pub(super) fn new(binary: bool) -> Images {
        Images { as_text: !binary, tables: Arc::default() }
    }

    /// Builds the images, with their indexes, on as many threads. Takes what the finished consumers
    /// brought; a table without rows gets an empty image.
    pub(super) fn build(&self, schemas: &[Arc<TableSchema>], threads: usize) -> Vec<TableImage> {
        let mut tables = std::mem::take(&mut *self.tables.lock());
        let mut work: Vec<(Arc<TableSchema>, Vec<Chunk>)> = schemas
            .iter()
            .map(|schema| (Arc::clone(schema), tables.remove(&schema.oid).unwrap_or_default()))
            .collect();
        // The largest first, so that no thread is left with it at the end.
        work.sort_by_key(|(_, chunks)| chunks.len());
        let work = Mutex::new(work);
        let images = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                scope.spawn(|| {
                    loop {
                        let next = work.lock().pop();
                        let Some((schema, chunks)) = next else { break };
                        let image = TableImage::build(schema, chunks);
                        images.lock().push(image);
                    }
                });
            }
        });
        images.into_inner()
    }
}

impl CopySink for Images {
    fn open(&self, table: &Arc<TableSchema>) -> Box<dyn CopyConsumer> {
        Box::new(RangeConsumer {
            tables: Arc::clone(&self.tables),
            decoder: CopyDecoder::default(),
            rows: RowDecoder::for_copy(table, self.as_text),
            builder: ChunkBuilder::new(table),
            chunks: Vec::new(),
            schema: Arc::clone(table),
        })
    }

    fn as_text(&self) -> bool {
        self.as_text
    }
}

/// One range of one table.
struct RangeConsumer {
    tables: Arc<Mutex<HashMap<TableOid, Vec<Chunk>>>>,
    schema: Arc<TableSchema>,
    decoder: CopyDecoder,
    rows: RowDecoder,
    builder: ChunkBuilder,
    chunks: Vec<Chunk>,
}

impl CopyConsumer for RangeConsumer {
    fn data(&mut self, payload: &[u8]) -> Result<u64, String> {
        let RangeConsumer { decoder, rows, builder, chunks, schema, .. } = self;
        let copied = decoder.tuples(payload, |tuple| {
            rows.copied(tuple, |column, datum| builder.push_value(column, &datum))?;
            builder.end_row();
            if builder.is_full() {
                chunks.push(std::mem::replace(builder, ChunkBuilder::new(schema)).finish());
            }
            Ok(())
        });
        copied.map_err(|error| error.to_string())
    }

    fn finish(mut self: Box<Self>) -> Result<(), String> {
        if !self.decoder.is_done() {
            return Err("the copy ended before its trailer".into());
        }
        if !self.builder.is_empty() {
            self.chunks.push(self.builder.finish());
        }
        self.tables.lock().entry(self.schema.oid).or_default().append(&mut self.chunks);
        Ok(())
    }
}
