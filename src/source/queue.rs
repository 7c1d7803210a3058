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
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Frame>,
    bytes: usize,
    taken: u64,
    ended: bool,
    /// Why, until somebody asks.
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

    /// Waits for frames and moves some to `out`; false when the last was taken and none will follow.
    pub(super) async fn take(&self, out: &mut Vec<Frame>) -> bool {
        loop {
            if self.try_take(out) {
                return true;
            }
            if self.state.lock().is_over() {
                return false;
            }
            self.readable.notified().await;
        }
    }

    /// Waits for the writer's end and gives its reason; [`SourceError::Ended`] when asked again. Frames
    /// may still wait to be taken.
    pub(super) async fn ended(&self) -> SourceError {
        loop {
            {
                let mut state = self.state.lock();
                if state.ended {
                    return state.end.take().unwrap_or(SourceError::Ended);
                }
            }
            self.ended.notified().await;
        }
    }

    fn try_take(&self, out: &mut Vec<Frame>) -> bool {
        let mut state = self.state.lock();
        if state.frames.is_empty() {
            return false;
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
        true
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
        self.ended.notify_one();
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

impl State {
    fn is_over(&self) -> bool {
        self.ended && self.frames.is_empty()
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
        assert!(queue.take(&mut out).await);
        assert_eq!(out, [change(1), Frame::Keepalive { wal_end: Lsn(9) }]);
        assert!(!queue.take(&mut out).await);
        assert!(matches!(queue.ended().await, SourceError::ShutdownStorm));
        assert!(matches!(queue.ended().await, SourceError::Ended));
    }

    #[tokio::test]
    async fn a_full_queue_has_room_after_enough_was_taken() {
        let queue = Queue::default();
        while !queue.is_full() {
            queue.push(vec![change(1 << 20)]);
        }
        let mut out = Vec::new();
        assert!(queue.take(&mut out).await);
        assert_eq!(out.len(), 4, "a take is bounded in bytes");
        queue.room().await;
        assert!(!queue.is_full());
        assert_eq!(queue.taken(), 4);
        drop(queue.end_on_drop());
        while queue.take(&mut out).await {}
        assert!(out.len() > 60);
    }
}
