//! The change stream: a task that owns the socket and a reader that takes frames when it likes.
//!
//! The only place from which a position is acknowledged.

use std::{sync::Arc, time::Duration};

use bytes::{Buf, Bytes};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use super::{
    Progress, ReplicationConnection, SourceError,
    io_thread::IoThread,
    queue::Queue,
    slot::{quote_identifier, quote_literal},
};
use crate::{
    primary::{Message, PrimaryError, ReadHalf, ServerMessage, WriteHalf},
    types::Lsn,
};

/// What START_REPLICATION asks for.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    pub publication: String,
    /// Values in binary where the type has a binary form.
    pub binary: bool,
    /// Large transactions before they commit.
    pub streaming: bool,
    /// `pg_logical_emit_message` too.
    pub messages: bool,
    /// How often our position is sent and the primary's asked for; a third of `wal_sender_timeout` if
    /// that is less.
    pub status_interval: Duration,
}

/// What the stream is made of, in the primary's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// One pgoutput message: what follows the XLogData header. That header's positions are not passed
    /// on, because they are no position of the stream (0/0 for Relation, backwards between transactions).
    Change(Bytes),
    /// Every transaction whose commit record ends at or before `wal_end` has been sent already.
    Keepalive { wal_end: Lsn },
}

/// A running stream. Dropping it ends the connection, and with it a temporary slot.
#[derive(Debug)]
pub struct Stream {
    queue: Arc<Queue>,
    progress: Arc<Progress>,
    _io: IoThread,
}

/// The end of a stream where its frames come out, for whoever applies them. It outlives the stream:
/// what has arrived can still be taken.
#[derive(Debug)]
pub struct StreamReader {
    queue: Arc<Queue>,
    progress: Arc<Progress>,
}

/// Status intervals without a word, though asked for one, after which the connection counts as dead.
/// Generous, because a decoder that skips a large transaction can be silent for a while, and losing the
/// connection costs a temporary slot; staleness is judged elsewhere and much sooner.
const SILENT_INTERVALS: u32 = 30;
const SILENT_AT_LEAST: Duration = Duration::from_secs(30);
/// How long the queue may stay full without one frame taken. As long as it is, the primary cannot shut
/// down; the same time as its own default `wal_sender_timeout`.
const STALLED: Duration = Duration::from_secs(60);
/// Pings within a second, without data between, that only a primary in shutdown sends.
const STORM_PINGS: u32 = 50;
/// A second ping sooner than this is answered only then: it bounds a storm to 100 pings a second and
/// gives the reader the time to apply what it holds.
const ANSWER_GAP: Duration = Duration::from_millis(10);
/// A primary that decodes a large transaction, or many small ones, sends each message by itself, and a
/// read for each costs as much as applying it. After this many reads on each other's heels, with no more
/// than [`HEEL`] between, the next one waits for [`GATHER`], and so on as long as a wait brings
/// [`GATHERED`] messages. A single transaction of a few rows is read before that and never waits.
const HEELS: u32 = 6;
const HEEL: Duration = Duration::from_micros(150);
const GATHER: Duration = Duration::from_millis(1);
const GATHERED: usize = 32;
/// Seconds from 1970 to 2000, PostgreSQL's epoch.
const EPOCH_S: u64 = 946_684_800;

impl ReplicationConnection {
    /// Starts the stream of a slot. `start` is `0/0` for a new slot; a position after the slot's own
    /// silently skips commits, one before it is silently forwarded.
    ///
    /// # Errors
    /// Any error of the primary destroys a temporary slot.
    pub async fn start(
        mut self,
        slot: &str,
        start: Lsn,
        options: &StreamOptions,
    ) -> Result<Stream, SourceError> {
        self.connection.send_query(&start_command(slot, start, self.version, options)).await?;
        loop {
            let message = self.connection.read_message().await?;
            match message.tag {
                // CopyBothResponse.
                b'W' => break,
                b'E' => return Err(server_error(&message.body)),
                b'N' => return Err(SourceError::Notice(Box::new(ServerMessage::parse(&message.body)))),
                _ => self.connection.note(&message)?,
            }
        }
        let interval_s = match self.sender_timeout {
            Some(timeout) => options.status_interval.min(timeout / 3),
            None => options.status_interval,
        };
        let (queue, progress) = (Arc::new(Queue::default()), Arc::new(Progress::default()));
        let (reader, writer) = self.connection.into_split();
        let task = Io {
            reader,
            writer,
            queue: Arc::clone(&queue),
            progress: Arc::clone(&progress),
            interval: interval_s.max(Duration::from_millis(10)),
            last_heard: Instant::now(),
            heels: 0,
            last_taken: (0, Instant::now()),
            outstanding: false,
            asked_again: false,
            last_answer: None,
            answer_at: None,
            storm: Storm::default(),
        };
        self.io.spawn(task.run());
        Ok(Stream { queue, progress, _io: self.io })
    }
}

fn start_command(slot: &str, start: Lsn, version: u32, options: &StreamOptions) -> String {
    let on = |enabled: bool| if enabled { "on" } else { "off" };
    let proto_version = match version {
        160_000.. => 4,
        150_000.. => 3,
        _ => 2,
    };
    let mut command = format!(
        "START_REPLICATION SLOT {} LOGICAL {start} (proto_version '{proto_version}', publication_names {}, \
         binary '{}', streaming '{}', messages '{}'",
        quote_identifier(slot),
        quote_literal(&quote_identifier(&options.publication)),
        on(options.binary),
        on(options.streaming),
        on(options.messages),
    );
    if version >= 160_000 {
        // What a subscription on the primary applied counts as well.
        command.push_str(", origin 'any'");
    }
    command.push(')');
    command
}

impl Stream {
    /// The frames. One reader at a time gets them.
    pub fn reader(&self) -> StreamReader {
        StreamReader { queue: Arc::clone(&self.queue), progress: Arc::clone(&self.progress) }
    }

    /// Waits for the end and says why; [`SourceError::Ended`] when asked again. Cancel safe.
    pub async fn ended(&self) -> SourceError {
        self.queue.ended().await
    }

    /// What is reported to the primary: moved by whoever applies the frames.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }
}

impl StreamReader {
    /// Waits for at least one frame and appends what has come, up to a bound; false when the stream has
    /// ended and everything was taken. Cancel safe.
    pub async fn next(&mut self, out: &mut Vec<Frame>) -> bool {
        self.queue.take(out).await
    }

    pub fn progress(&self) -> &Progress {
        &self.progress
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// The task's state.
struct Io {
    reader: ReadHalf,
    writer: WriteHalf,
    queue: Arc<Queue>,
    progress: Arc<Progress>,
    interval: Duration,
    last_heard: Instant,
    /// Reads that followed each other at once.
    heels: u32,
    /// How many frames had been taken when it was last looked at, and when that number changed.
    last_taken: (u64, Instant),
    /// A question of ours is not answered yet.
    outstanding: bool,
    /// Somebody asked while one was outstanding, whose answer may be older than the question.
    asked_again: bool,
    last_answer: Option<Instant>,
    answer_at: Option<Instant>,
    storm: Storm,
}

impl Io {
    async fn run(mut self) {
        // Whatever ends this task, the reader hears of it.
        let queue = Arc::clone(&self.queue);
        let _ended = queue.end_on_drop();
        let error = match self.serve().await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        self.queue.end(error);
    }

    async fn serve(&mut self) -> Result<std::convert::Infallible, SourceError> {
        let mut tick: Interval = interval(self.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let full = self.queue.is_full();
            let answer_at = self.answer_at;
            tokio::select! {
                biased;
                // 1. Nobody reads any more.
                () = self.queue.closed() => return Err(SourceError::Ended),
                // 2. What is written goes out; if the socket is full, the rest goes on meanwhile.
                sent = self.writer.flush(), if self.writer.pending() => {
                    sent?;
                    self.ask_again();
                }
                // 3. Somebody waits for a position.
                () = self.progress.asked() => match self.outstanding {
                    true => self.asked_again = true,
                    false => self.send_status(true),
                },
                // 4. A ping whose answer was held back.
                () = sleep_until(answer_at.unwrap_or(self.last_heard)), if answer_at.is_some() => self.answer(),
                // 5. The regular status.
                _ = tick.tick() => self.on_tick(full)?,
                // 6. Messages, as long as there is room for them.
                filled = self.reader.fill(), if !full => {
                    filled?;
                    self.drain()?;
                    if self.heels >= HEELS {
                        // Blocks the thread, which has nothing else to do: the runtime's timers are no
                        // finer than a millisecond.
                        std::thread::sleep(GATHER);
                    }
                }
                // 7. Room again.
                () = self.queue.room(), if full => {}
            }
        }
    }

    /// Sends our position even when nothing can be read, so that the primary does not give us up.
    fn on_tick(&mut self, full: bool) -> Result<(), SourceError> {
        let (now, taken) = (Instant::now(), self.queue.taken());
        if !full || taken != self.last_taken.0 {
            self.last_taken = (taken, now);
        }
        if full {
            // Its word may be waiting in the socket, so silence proves nothing.
            self.last_heard = now;
            if now - self.last_taken.1 > STALLED {
                return Err(SourceError::Stalled { seconds: STALLED.as_secs() });
            }
        }
        let silent = now - self.last_heard;
        if silent > (self.interval * SILENT_INTERVALS).max(SILENT_AT_LEAST) {
            return Err(SourceError::Silent { seconds: silent.as_secs() });
        }
        // While nothing is read the answers would only pile up.
        self.send_status(!full);
        Ok(())
    }

    /// Standby status update. Acknowledges what may be acknowledged and not a byte more.
    fn send_status(&mut self, reply_requested: bool) {
        if self.writer.pending() {
            // What waits there says enough, and the question follows it.
            self.asked_again |= reply_requested;
            return;
        }
        let mut message = Vec::with_capacity(39);
        message.push(b'd');
        message.extend_from_slice(&38_u32.to_be_bytes());
        message.push(b'r');
        for lsn in [self.progress.received(), self.progress.flushed(), self.progress.applied()] {
            message.extend_from_slice(&lsn.0.to_be_bytes());
        }
        let since_1970 =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let clock_us = since_1970.saturating_sub(Duration::from_secs(EPOCH_S)).as_micros() as i64;
        message.extend_from_slice(&clock_us.to_be_bytes());
        message.push(u8::from(reply_requested));
        self.writer.write(&message);
        self.outstanding |= reply_requested;
    }

    fn answer(&mut self) {
        self.answer_at = None;
        self.last_answer = Some(Instant::now());
        self.send_status(false);
    }

    /// Takes every complete message from the buffer.
    fn drain(&mut self) -> Result<(), SourceError> {
        let now = Instant::now();
        let since = now - self.last_heard;
        self.last_heard = now;
        let mut frames = Vec::new();
        let mut end = None;
        while end.is_none()
            && let Some(message) = self.reader.try_read_buffered()?
        {
            match self.on_message(message, now) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => {}
                Err(error) => end = Some(error),
            }
        }
        self.heels = match self.heels {
            HEELS if frames.len() >= GATHERED => HEELS,
            heels if heels < HEELS && since <= HEEL => heels + 1,
            _ => 0,
        };
        // What came before an error is good.
        self.queue.push(frames);
        match end {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn on_message(&mut self, message: Message, now: Instant) -> Result<Option<Frame>, SourceError> {
        match message.tag {
            b'd' => self.on_copy_data(message.body, now),
            b'E' => Err(server_error(&message.body)),
            b'N' => Err(SourceError::Notice(Box::new(ServerMessage::parse(&message.body)))),
            // CopyDone and CommandComplete: the primary has sent everything and shuts down.
            b'c' | b'C' | b'Z' => Err(SourceError::Ended),
            // A setting that the primary reloaded; those that we depend on are set for this session.
            b'S' => Ok(None),
            tag => Err(SourceError::Protocol(format!("message {:?} in the stream", char::from(tag)))),
        }
    }

    fn on_copy_data(&mut self, mut body: Bytes, now: Instant) -> Result<Option<Frame>, SourceError> {
        let cut_off = |_| SourceError::Protocol("a replication message that is cut off".into());
        match body.try_get_u8().map_err(cut_off)? {
            b'w' => {
                let _data_start = body.try_get_u64().map_err(cut_off)?;
                let wal_end = body.try_get_u64().map_err(cut_off)?;
                let _sent_at = body.try_get_i64().map_err(cut_off)?;
                self.progress.set_received(Lsn(wal_end));
                self.storm = Storm::default();
                Ok(Some(Frame::Change(body)))
            }
            b'k' => {
                let wal_end = Lsn(body.try_get_u64().map_err(cut_off)?);
                let _sent_at = body.try_get_i64().map_err(cut_off)?;
                let ping = body.try_get_u8().map_err(cut_off)? != 0;
                self.progress.set_received(wal_end);
                match ping {
                    true => self.on_ping(now)?,
                    false => self.on_answer(),
                }
                Ok(Some(Frame::Keepalive { wal_end }))
            }
            kind => Err(SourceError::Protocol(format!("replication message {:?}", char::from(kind)))),
        }
    }

    fn on_ping(&mut self, now: Instant) -> Result<(), SourceError> {
        if self.storm.count(now) {
            return Err(SourceError::ShutdownStorm);
        }
        match self.last_answer {
            Some(last) if now - last < ANSWER_GAP => self.answer_at = Some(last + ANSWER_GAP),
            _ => self.answer(),
        }
        Ok(())
    }

    fn on_answer(&mut self) {
        self.outstanding = false;
        self.ask_again();
    }

    fn ask_again(&mut self) {
        if !self.outstanding && std::mem::take(&mut self.asked_again) {
            self.send_status(true);
        }
    }
}

/// Counts pings without data between them.
#[derive(Debug, Default)]
struct Storm {
    since: Option<Instant>,
    pings: u32,
}

impl Storm {
    /// Whether this ping makes it a storm.
    fn count(&mut self, now: Instant) -> bool {
        match self.since {
            Some(since) if now - since < Duration::from_secs(1) => self.pings += 1,
            _ => *self = Storm { since: Some(now), pings: 1 },
        }
        self.pings >= STORM_PINGS
    }
}

fn server_error(body: &[u8]) -> SourceError {
    SourceError::Primary(PrimaryError::Server(Box::new(ServerMessage::parse(body))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_what_the_version_knows() {
        let options = StreamOptions {
            publication: "it's \"p\"".into(),
            binary: true,
            streaming: false,
            messages: true,
            status_interval: Duration::from_secs(1),
        };
        assert_eq!(
            start_command("s", Lsn::ZERO, 150_020, &options),
            "START_REPLICATION SLOT \"s\" LOGICAL 0/0 (proto_version '3', publication_names \
             '\"it''s \"\"p\"\"\"', binary 'on', streaming 'off', messages 'on')"
        );
        assert!(start_command("s", Lsn::ZERO, 180_004, &options).contains("proto_version '4'"));
        assert!(start_command("s", Lsn::ZERO, 180_004, &options).ends_with("origin 'any')"));
        assert!(start_command("s", Lsn::ZERO, 140_018, &options).contains("proto_version '2'"));
    }

    #[test]
    fn fifty_pings_in_a_second_are_a_storm() {
        let start = Instant::now();
        let mut storm = Storm::default();
        let storms = (0..60).filter(|i| storm.count(start + Duration::from_millis(i * 10))).count();
        assert_eq!(storms, 11);
        let mut calm = Storm::default();
        assert!(!(0..60).any(|i| calm.count(start + Duration::from_millis(i * 50))));
    }
}
