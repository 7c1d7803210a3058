//! The bounded queue between a stream's socket and its reader.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Frame, SourceError};

/// Bytes that may wait before the socket is left alone.
const MAX_BYTES: usize = 64 << 20;
/// What a frame costs besides its payload.
const FRAME_BYTES: usize = 64;
/// What one `take` gives at most.
const TAKE_FRAMES: usize = 8_192;
const TAKE_BYTES: usize = 4 << 20;

/// One writer, one reader.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    readable: Notify,
    room: Notify,
    closed: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Frame>,
    bytes: usize,
    taken: u64,
    ended: bool,
    end: Option<SourceError>,
}

impl Queue {
    /// Appends frames; goes beyond the bound rather than waiting, by what one read brought.
    pub(super) fn push(&self, frames: Vec<Frame>) {
        if frames.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        state.bytes += frames.iter().map(size).sum::<usize>();
        state.frames.extend(frames);
        drop(state);
        self.readable.notify_one();
    }

    /// Waits for frames and moves some to `out`; the end comes after the last.
    pub(super) async fn take(&self, out: &mut Vec<Frame>) -> Result<(), SourceError> {
        while !self.try_take(out)? {
            self.readable.notified().await;
        }
        Ok(())
    }

    fn try_take(&self, out: &mut Vec<Frame>) -> Result<bool, SourceError> {
        let mut state = self.state.lock();
        if state.frames.is_empty() {
            return match state.ended {
                true => Err(state.end.take().unwrap_or(SourceError::Ended)),
                false => Ok(false),
            };
        }
        let full = state.bytes >= MAX_BYTES;
        let (mut frames, mut bytes) = (0, 0);
        while frames < TAKE_FRAMES
            && bytes < TAKE_BYTES
            && let Some(frame) = state.frames.pop_front()
        {
            frames += 1;
            bytes += size(&frame);
            out.push(frame);
        }
        state.bytes -= bytes;
        state.taken += frames as u64;
        if full && state.bytes < MAX_BYTES {
            self.room.notify_one();
        }
        Ok(true)
    }

    pub(super) fn is_full(&self) -> bool {
        self.state.lock().bytes >= MAX_BYTES
    }

    /// Frames taken since the beginning.
    pub(super) fn taken(&self) -> u64 {
        self.state.lock().taken
    }

    pub(super) async fn room(&self) {
        self.room.notified().await;
    }

    /// The reader is gone.
    pub(super) fn close(&self) {
        self.closed.notify_one();
    }

    pub(super) async fn closed(&self) {
        self.closed.notified().await;
    }

    /// Nothing follows. The first reason counts.
    pub(super) fn end(&self, error: SourceError) {
        let mut state = self.state.lock();
        if !state.ended {
            state.ended = true;
            state.end = Some(error);
        }
        drop(state);
        self.readable.notify_one();
    }

    /// Ends the queue when the writer is dropped, whatever the cause.
    pub(super) fn end_on_drop(&self) -> impl Drop + '_ {
        struct EndOnDrop<'a>(&'a Queue);
        impl Drop for EndOnDrop<'_> {
            fn drop(&mut self) {
                self.0.end(SourceError::Ended);
            }
        }
        EndOnDrop(self)
    }
}

fn size(frame: &Frame) -> usize {
    match frame {
        Frame::Change(payload) => payload.len() + FRAME_BYTES,
        Frame::Keepalive { .. } => FRAME_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::Lsn;

    fn change(length: usize) -> Frame {
        Frame::Change(Bytes::from(vec![1; length]))
    }

    #[tokio::test]
    async fn the_end_comes_after_the_last_frame() {
        let queue = Queue::default();
        queue.push(vec![change(1), Frame::Keepalive { wal_end: Lsn(9) }]);
        queue.end(SourceError::ShutdownStorm);
        queue.end(SourceError::Ended);
        let mut out = Vec::new();
        queue.take(&mut out).await.unwrap();
        assert_eq!(out, [change(1), Frame::Keepalive { wal_end: Lsn(9) }]);
        assert!(matches!(queue.take(&mut out).await, Err(SourceError::ShutdownStorm)));
        assert!(matches!(queue.take(&mut out).await, Err(SourceError::Ended)));
    }

    #[tokio::test]
    async fn a_full_queue_has_room_after_enough_was_taken() {
        let queue = Queue::default();
        while !queue.is_full() {
            queue.push(vec![change(1 << 20)]);
        }
        let mut out = Vec::new();
        queue.take(&mut out).await.unwrap();
        assert_eq!(out.len(), 4, "a take is bounded in bytes");
        queue.room().await;
        assert!(!queue.is_full());
        assert_eq!(queue.taken(), 4);
        drop(queue.end_on_drop());
        while queue.take(&mut out).await.is_ok() {}
        assert!(out.len() > 60);
    }
}
