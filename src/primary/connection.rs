//! [`Connection`]: messages in, bytes out, over one stream to the primary.

use std::collections::HashMap;

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{
    Message, PrimaryError, ServerMessage, Stream, Target,
    connect::Encryption,
    message::{Fields, Input},
};

/// A connection of our own framing. What is written waits in a buffer until [`Connection::flush`].
#[derive(Debug)]
pub struct Connection {
    pub(super) stream: Stream,
    pub(super) input: Input,
    output: Output,
    pub(super) parameters: HashMap<String, String>,
    pub(super) process_id: i32,
    pub(super) secret_key: Bytes,
}

impl Connection {
    /// Reaches the primary and stops before the startup packet, for a relay that sends its client's.
    ///
    /// With `sslmode=allow` the connection is plain; with `prefer` it is encrypted if the server can.
    pub async fn open(target: &Target) -> Result<Connection, PrimaryError> {
        let mut last = None;
        for (index, host) in target.hosts() {
            let encryption = target.attempts(host).first().copied().unwrap_or(Encryption::None);
            match target.reach(host, encryption).await {
                Ok(stream) => {
                    target.prefer(index);
                    return Ok(Connection::over(stream));
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| PrimaryError::Url("primary.url names no host".into())))
    }

    /// A connection over a stream on which nothing has been said.
    pub fn over(stream: Stream) -> Connection {
        Connection {
            stream,
            input: Input::default(),
            output: Output::default(),
            parameters: HashMap::new(),
            process_id: 0,
            secret_key: Bytes::new(),
        }
    }

    /// What the primary reported last, such as `server_version` or `in_hot_standby`.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// `server_version` as `server_version_num` writes it: 150020 for 15.20.
    ///
    /// # Errors
    /// Before the login, or when the report cannot be read.
    pub fn server_version_num(&self) -> Result<u32, PrimaryError> {
        let text = self.parameter("server_version").unwrap_or_default();
        version_num(text).ok_or_else(|| PrimaryError::Protocol(format!("server_version is {text:?}")))
    }

    /// The backend's process id; 0 before the login.
    pub fn process_id(&self) -> i32 {
        self.process_id
    }

    /// What a cancel request must carry: 4 to 256 bytes, none before the login.
    pub fn secret_key(&self) -> &Bytes {
        &self.secret_key
    }

    /// Whether a secret in clear would stay between us and the primary's machine.
    pub fn is_private(&self) -> bool {
        match &self.stream {
            Stream::Tcp(stream) => stream.peer_addr().is_ok_and(|address| address.ip().is_loopback()),
            Stream::Unix(_) | Stream::Tls(_) => true,
        }
    }

    /// The next message, of any kind. Cancel safe.
    ///
    /// # Errors
    /// [`PrimaryError::Closed`] at the end, [`PrimaryError::Protocol`] for an impossible length.
    pub async fn read_message(&mut self) -> Result<Message, PrimaryError> {
        loop {
            if let Some(message) = self.input.message()? {
                return Ok(message);
            }
            self.input.fill(&mut self.stream).await?;
        }
    }

    /// The next message if all of it is here already.
    pub fn try_read_buffered(&mut self) -> Result<Option<Message>, PrimaryError> {
        self.input.message()
    }

    /// The next message where it lies, and then [`Connection::consume`]: for loops that see every
    /// byte of a table.
    pub fn peek(&self) -> Result<Option<(u8, &[u8])>, PrimaryError> {
        self.input.peek()
    }

    /// Drops the message that [`Connection::peek`] showed.
    pub fn consume(&mut self) -> Result<(), PrimaryError> {
        self.input.consume()
    }

    /// Waits for more bytes. Cancel safe.
    pub async fn fill(&mut self) -> Result<(), PrimaryError> {
        self.input.fill(&mut self.stream).await
    }

    /// Appends whole messages to what is to be sent.
    pub fn write(&mut self, bytes: &[u8]) {
        self.output.write(bytes);
    }

    /// Sends everything that was written. Cancel safe.
    pub async fn flush(&mut self) -> Result<(), PrimaryError> {
        self.output.flush(&mut self.stream).await
    }

    /// Sends a query of the simple protocol, whose answers are for the caller to read.
    pub async fn send_query(&mut self, sql: &str) -> Result<(), PrimaryError> {
        let mut message = BytesMut::new();
        frontend::query(sql, &mut message).map_err(|e| PrimaryError::Protocol(e.to_string()))?;
        self.write(&message);
        self.flush().await
    }

    /// Runs a query and gives all rows of all its statements as text. Reads up to ReadyForQuery, also
    /// after an error, so that the connection can be used again.
    pub async fn simple_query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, PrimaryError> {
        self.send_query(sql).await?;
        let (mut rows, mut error) = (Vec::new(), None);
        loop {
            let message = self.read_message().await?;
            match message.tag {
                b'D' => rows.push(text_row(&message.body)?),
                b'E' => error = Some(ServerMessage::parse(&message.body)),
                b'Z' => break,
                b'T' | b'C' | b'I' => {}
                _ => self.note(&message)?,
            }
        }
        match error {
            Some(error) => Err(PrimaryError::Server(Box::new(error))),
            None => Ok(rows),
        }
    }

    /// Takes a message that can come at any time: NoticeResponse, ParameterStatus, notification.
    ///
    /// # Errors
    /// For every other message.
    pub fn note(&mut self, message: &Message) -> Result<(), PrimaryError> {
        match message.tag {
            b'N' => tracing::debug!("notice of the primary: {}", ServerMessage::parse(&message.body)),
            b'S' => {
                let mut fields = Fields(&message.body);
                let name = fields.text()?.to_owned();
                self.parameters.insert(name, fields.text()?.to_owned());
            }
            b'A' => {}
            tag => return Err(unexpected(tag)),
        }
        Ok(())
    }

    /// Everything that the primary reported last, by name.
    pub fn take_parameters(&mut self) -> HashMap<String, String> {
        std::mem::take(&mut self.parameters)
    }

    /// Reading and writing at once.
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        let (read, write) = tokio::io::split(self.stream);
        (ReadHalf { stream: read, input: self.input }, WriteHalf { stream: write, output: self.output })
    }
}

/// The reading half of a [`Connection`].
#[derive(Debug)]
pub struct ReadHalf {
    stream: tokio::io::ReadHalf<Stream>,
    input: Input,
}

impl ReadHalf {
    /// As [`Connection::read_message`].
    pub async fn read_message(&mut self) -> Result<Message, PrimaryError> {
        loop {
            if let Some(message) = self.input.message()? {
                return Ok(message);
            }
            self.fill().await?;
        }
    }

    /// As [`Connection::try_read_buffered`].
    pub fn try_read_buffered(&mut self) -> Result<Option<Message>, PrimaryError> {
        self.input.message()
    }

    /// The next message as it came, tag and length included, to be handed on verbatim. Cancel safe.
    pub async fn read_frame(&mut self) -> Result<Bytes, PrimaryError> {
        loop {
            if let Some(frame) = self.input.frame()? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    /// As [`ReadHalf::read_frame`], if all of it is here already.
    pub fn try_read_frame(&mut self) -> Result<Option<Bytes>, PrimaryError> {
        self.input.frame()
    }

    /// Waits for more bytes. Cancel safe.
    pub async fn fill(&mut self) -> Result<(), PrimaryError> {
        self.input.fill(&mut self.stream).await
    }

    /// As [`ReadHalf::fill`], without a buffer as long as nothing comes: for connections that wait.
    pub async fn fill_idle(&mut self) -> Result<(), PrimaryError> {
        self.input.fill_idle(&mut self.stream).await
    }
}

/// Has the stream of both halves served by the runtime that this is called on, whichever opened it.
///
/// # Errors
/// When the system is out of descriptors; the connection is lost then.
pub fn rehome(read: ReadHalf, write: WriteHalf) -> Result<(ReadHalf, WriteHalf), PrimaryError> {
    let mut stream = read.stream.unsplit(write.stream);
    stream.rehome().map_err(PrimaryError::closed)?;
    let (read_stream, write_stream) = tokio::io::split(stream);
    let read = ReadHalf { stream: read_stream, input: read.input };
    Ok((read, WriteHalf { stream: write_stream, output: write.output }))
}

/// The writing half of a [`Connection`].
#[derive(Debug)]
pub struct WriteHalf {
    stream: tokio::io::WriteHalf<Stream>,
    output: Output,
}

impl WriteHalf {
    /// As [`Connection::write`].
    pub fn write(&mut self, bytes: &[u8]) {
        self.output.write(bytes);
    }

    /// Whether something that was written is not on its way yet.
    pub fn pending(&self) -> bool {
        self.output.pending
    }

    /// As [`Connection::flush`].
    pub async fn flush(&mut self) -> Result<(), PrimaryError> {
        self.output.flush(&mut self.stream).await
    }

    /// Gives memory back that is not needed while nothing is to be sent.
    pub fn shrink(&mut self) {
        self.output.shrink();
    }
}

#[derive(Debug, Default)]
struct Output {
    buffer: BytesMut,
    /// Also while the buffer is empty and the encryption below it is not.
    pending: bool,
}

impl Output {
    fn write(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.pending = true;
    }

    /// Gives the memory of an empty buffer back.
    fn shrink(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    async fn flush(&mut self, stream: &mut (impl AsyncWrite + Unpin)) -> Result<(), PrimaryError> {
        while self.buffer.has_remaining() {
            // Takes what was written off the buffer, so a cancelled flush goes on where it was.
            stream.write_buf(&mut self.buffer).await.map_err(PrimaryError::closed)?;
        }
        stream.flush().await.map_err(PrimaryError::closed)?;
        self.pending = false;
        Ok(())
    }
}

fn text_row(body: &[u8]) -> Result<Vec<Option<String>>, PrimaryError> {
    let mut fields = Fields(body);
    let count = fields.i16()?;
    let mut row = Vec::new();
    for _ in 0..count {
        row.push(match usize::try_from(fields.i32()?) {
            Ok(length) => Some(String::from_utf8_lossy(fields.bytes(length)?).into_owned()),
            // -1: NULL.
            Err(_) => None,
        });
    }
    Ok(row)
}

pub(super) fn unexpected(tag: u8) -> PrimaryError {
    PrimaryError::Protocol(format!("message {:?}", char::from(tag)))
}

fn version_num(text: &str) -> Option<u32> {
    let number = text.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
    let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
    let minor = minor.split('.').next()?.parse::<u32>().ok()?;
    major.parse::<u32>().ok()?.checked_mul(10_000)?.checked_add(minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions() {
        for (text, number) in [
            ("15.20 (Debian 15.20-0+deb12u1)", Some(150_020)),
            ("18.4", Some(180_004)),
            ("19beta2", Some(190_000)),
            ("", None),
            ("99999999999", None),
        ] {
            assert_eq!(version_num(text), number, "{text}");
        }
    }

    #[test]
    fn rows_that_are_cut_off_are_errors() {
        let good = b"\0\x02\xff\xff\xff\xff\0\0\0\x02ab";
        assert_eq!(text_row(good).unwrap(), [None, Some("ab".into())]);
        for end in 0..good.len() {
            assert!(text_row(&good[..end]).is_err(), "{end}");
        }
        assert!(text_row(b"\x7f\xff").is_err());
    }
}
