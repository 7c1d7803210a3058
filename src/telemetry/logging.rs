//! Logs, to standard error: text or a JSON object a line.

use std::io;

use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, filter::ParseError, fmt::MakeWriter, util::SubscriberInitExt};

use crate::config::Log;

/// Logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("log.filter is wrong")]
    Filter(#[from] ParseError),
    #[error("logging was set up already")]
    SetUp(#[from] tracing_subscriber::util::TryInitError),
}

/// Sets up logging for the whole process.
///
/// # Errors
/// For a wrong filter (which the configuration has checked), and when it was called before.
pub fn init(log: &Log) -> Result<(), LoggingError> {
    Ok(subscriber(log, io::stderr)?.try_init()?)
}

fn subscriber<W>(log: &Log, writer: W) -> Result<Box<dyn Subscriber + Send + Sync>, ParseError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder().parse(&log.filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    Ok(if log.json {
        Box::new(builder.json().flatten_event(true).finish())
    } else {
        // Colours would be noise in a file; a terminal reads well without them.
        Box::new(builder.with_ansi(false).finish())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, json: bool) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let log = Log { filter: filter.into(), json };
        let subscriber = subscriber(&log, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(table = "users", "copied");
            tracing::debug!("unseen");
        });
        let bytes = buffer.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn text_and_json_show_what_the_filter_lets_pass() {
        let text = logged("info", false);
        assert!(text.contains("INFO") && text.contains("copied table=\"users\""), "{text}");
        assert!(!text.contains("unseen") && !text.contains('\u{1b}'), "{text}");

        let json = logged("info", true);
        assert!(json.starts_with('{') && json.trim_end().ends_with('}'), "{json}");
        assert!(json.contains("\"message\":\"copied\"") && json.contains("\"table\":\"users\""), "{json}");

        assert_eq!(logged("warn", false), "");
        assert_eq!(logged("other=trace", false), "");
    }
}
