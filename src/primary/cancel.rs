//! CancelRequest.

use super::{Connection, PrimaryError, Target};

/// Asks the primary to cancel what the backend `process_id` is doing, on a connection of its own. The
/// primary never answers; it closes that connection once it has read the request.
///
/// `key` is BackendKeyData's, 4 to 256 bytes.
pub async fn cancel(target: &Target, process_id: i32, key: &[u8]) -> Result<(), PrimaryError> {
    let mut connection = Connection::open(target).await?;
    let length = 12 + key.len() as u32;
    connection.write(&length.to_be_bytes());
    connection.write(&80_877_102_u32.to_be_bytes());
    connection.write(&process_id.to_be_bytes());
    connection.write(key);
    connection.flush().await?;
    match tokio::time::timeout(target.connect_timeout, connection.read_message()).await {
        Err(_) | Ok(Err(PrimaryError::Closed { .. })) => Ok(()),
        Ok(Err(error)) => Err(error),
        Ok(Ok(message)) => {
            Err(PrimaryError::Protocol(format!("message {:?} to a cancel request", message.tag)))
        }
    }
}
