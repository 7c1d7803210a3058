//! The thread that replication IO has to itself, so that neither queries nor apply can keep it from
//! answering the primary.

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

use super::SourceError;

/// A current-thread runtime on a thread of its own. Ends, with all its tasks, when dropped.
#[derive(Debug)]
pub(super) struct IoThread {
    handle: Handle,
    _stop: oneshot::Sender<()>,
}

impl IoThread {
    pub(super) fn start(name: &str) -> Result<IoThread, SourceError> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(SourceError::Thread)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // An error says that the sender is gone, which is the signal.
                let _ = runtime.block_on(stopped);
            })
            .map_err(SourceError::Thread)?;
        Ok(IoThread { handle, _stop: stop })
    }

    /// Runs a future there and waits for it here. Sockets that it opens are driven there from then on.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T, SourceError>> + Send + 'static,
    ) -> Result<T, SourceError> {
        match self.handle.spawn(future).await {
            Ok(result) => result,
            Err(error) => Err(SourceError::Thread(std::io::Error::other(error))),
        }
    }

    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(future);
    }
}
