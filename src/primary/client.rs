//! Ordinary connections, by tokio-postgres over our own transport.

use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

use super::{Host, PrimaryError, Target, connect::Encryption, login::other_encryption_may_help};

/// Settings under which our own queries mean the same in every database: names of `pg_catalog` only,
/// bounded in time, text as the codec expects it. Compiling a query on the catalogue takes the primary
/// longer than running it, many times.
const OPTIONS: &str = "-c search_path=pg_catalog -c statement_timeout=60s -c lock_timeout=10s \
     -c idle_in_transaction_session_timeout=60s -c idle_session_timeout=0 -c row_security=off \
     -c default_transaction_read_only=off -c default_transaction_isolation=read\\ committed \
     -c datestyle=ISO -c intervalstyle=postgres -c timezone=UTC -c extra_float_digits=1 \
     -c bytea_output=hex -c standard_conforming_strings=on -c jit=off";

/// Logs in for ordinary queries. The connection's task ends with the client.
///
/// # Errors
/// As [`Connection::login`](super::Connection::login).
pub async fn client(target: &Target, application_name: &str) -> Result<Client, PrimaryError> {
    let mut last = None;
    for (index, host) in target.hosts() {
        for (nth, &encryption) in target.attempts(host).iter().enumerate() {
            let attempt = client_at(target, host, encryption, application_name);
            match timeout(target.connect_timeout, attempt).await {
                Ok(Ok(client)) => {
                    target.prefer(index);
                    return Ok(client);
                }
                Ok(Err(error)) if nth == 0 && other_encryption_may_help(&error) => last = Some(error),
                Ok(Err(error @ PrimaryError::Auth { .. })) => return Err(error),
                Ok(Err(error)) => {
                    last = Some(error);
                    break;
                }
                Err(_) => {
                    last = Some(target.timed_out(host));
                    break;
                }
            }
        }
    }
    Err(last.unwrap_or_else(|| PrimaryError::Url("primary.url names no host".into())))
}

async fn client_at(
    target: &Target,
    host: &Host,
    encryption: Encryption,
    application_name: &str,
) -> Result<Client, PrimaryError> {
    let stream = target.reach(host, encryption).await?;
    let mut config = tokio_postgres::Config::new();
    config
        .user(target.user())
        .dbname(target.database())
        .application_name(application_name)
        .options(format!("{} {OPTIONS}", target.options).trim());
    if let Some(password) = target.password(host) {
        config.password(password);
    }
    let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(|error| {
        match PrimaryError::from(error) {
            PrimaryError::Server(message) => PrimaryError::at_login(*message),
            // Neither the network nor the server's own refusal: the exchange failed on our side.
            PrimaryError::Protocol(message) => PrimaryError::Auth { sqlstate: "28P01".into(), message },
            error => error,
        }
    })?;
    if target.primary_only && connection.parameter("in_hot_standby") == Some("on") {
        return Err(PrimaryError::Unreachable {
            host: host.to_string(),
            source: std::io::Error::other("it is a standby"),
        });
    }
    let name = application_name.to_owned();
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(connection = name, "connection to the primary ended: {error}");
        }
    });
    Ok(client)
}
