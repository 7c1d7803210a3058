//! Logins: every method and every sslmode against a real server.

use std::{path::Path, time::Duration};

use millpond::{
    config,
    primary::{Connection, PrimaryError, Target, client},
};

/// What the server's pg_hba.conf must be for [`logins`].
pub(crate) const HBA: &str = "\
hostnossl all plainonly 127.0.0.1/32 trust
hostssl all tlsonly 127.0.0.1/32 scram-sha-256
host all scram 127.0.0.1/32 scram-sha-256
host all md5u 127.0.0.1/32 md5
host all clear 127.0.0.1/32 password
";

/// The roles that [`HBA`] names.
pub(crate) const ROLES: &str = "\
set password_encryption = 'scram-sha-256';
create role scram login password 'p@ss word';
create role tlsonly login password 'x';
create role plainonly login;
create role clear login password 'c';
set password_encryption = 'md5';
create role md5u login password 'm';
";

/// `port` serves on 127.0.0.1 with `ssl = on` and a self-signed certificate for localhost, `certificates`
/// has it as `server.crt`, and another one as `other.crt`.
pub(crate) async fn logins(port: u16, certificates: &Path) {
    let root = certificates.join("server.crt").display().to_string();
    let other = certificates.join("other.crt").display().to_string();
    let encrypted = Some(true);
    let plain = Some(false);
    // Role and password, host, parameters; whether it is encrypted then, or a part of the error.
    let cases: &[(&str, &str, &str, Option<bool>, &str)] = &[
        ("scram:p%40ss%20word", "127.0.0.1", "sslmode=disable", plain, ""),
        ("scram:p%40ss%20word", "127.0.0.1", "", encrypted, ""),
        ("scram:p%40ss%20word", "127.0.0.1", "sslmode=allow", plain, ""),
        ("scram:p%40ss%20word", "127.0.0.1", "sslmode=require", encrypted, ""),
        ("scram:p%40ss%20word", "localhost", "sslmode=verify-full&sslrootcert=ROOT", encrypted, ""),
        ("scram:p%40ss%20word", "127.0.0.1", "sslmode=verify-ca&sslrootcert=ROOT", encrypted, ""),
        (
            "scram:p%40ss%20word",
            "127.0.0.1",
            "sslmode=verify-full&sslrootcert=ROOT",
            None,
            "not valid for name",
        ),
        ("scram:p%40ss%20word", "localhost", "sslmode=verify-full&sslrootcert=OTHER", None, "cannot encrypt"),
        ("scram:p%40ss%20word", "127.0.0.1", "sslmode=require&sslrootcert=OTHER", None, "cannot encrypt"),
        ("scram:wrong", "127.0.0.1", "", None, "28P01"),
        ("scram", "127.0.0.1", "", None, "password"),
        ("md5u:m", "127.0.0.1", "sslmode=disable", plain, ""),
        ("md5u:n", "127.0.0.1", "sslmode=disable", None, "28P01"),
        ("clear:c", "127.0.0.1", "sslmode=require", encrypted, ""),
        ("clear:c", "127.0.0.1", "sslmode=disable", plain, ""),
        ("tlsonly:x", "127.0.0.1", "sslmode=disable", None, "28000"),
        ("tlsonly:x", "127.0.0.1", "sslmode=allow", encrypted, ""),
        ("plainonly", "127.0.0.1", "sslmode=require", None, "28000"),
        ("plainonly", "127.0.0.1", "", plain, ""),
        ("nobody", "127.0.0.1", "", None, "28000"),
    ];
    for (role, host, parameters, expected, part) in cases {
        let parameters = parameters.replace("ROOT", &root).replace("OTHER", &other);
        let url = format!("postgres://{role}@{host}:{port}/postgres?{parameters}");
        let target = Target::parse(&config::Primary {
            url: url.clone(),
            password: None,
            passfile: None,
            start_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
        })
        .unwrap();
        let own = encryption(&target).await;
        let ordinary = client(&target, "test").await;
        match expected {
            Some(encrypted) => {
                assert_eq!(own.unwrap(), *encrypted, "{url}");
                let row = ordinary.unwrap().query_one("select current_user::text", &[]).await.unwrap();
                assert_eq!(row.get::<_, &str>(0), target.user(), "{url}");
            }
            None => {
                let error = own.unwrap_err().to_string();
                assert!(error.contains(part), "{url}: {error}");
                let error = ordinary.map(drop).unwrap_err().to_string();
                assert!(error.contains(part), "{url}: {error}");
            }
        }
    }
    let nowhere = Target::parse(&config::Primary {
        url: "postgres://me@127.0.0.1:1/x?sslmode=disable".into(),
        password: None,
        passfile: None,
        start_timeout: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(10),
    });
    let error = Connection::open(&nowhere.unwrap()).await.unwrap_err();
    assert!(matches!(error, PrimaryError::Unreachable { .. }), "{error}");
}

/// Whether the server says that our own connection is encrypted.
async fn encryption(target: &Target) -> Result<bool, PrimaryError> {
    let mut connection = Connection::login(target, &[]).await?;
    let rows = connection.simple_query("select ssl from pg_stat_ssl where pid = pg_backend_pid()").await?;
    Ok(rows[0][0].as_deref() == Some("t"))
}
