//! Logins: every method and every sslmode against a real server; and sessions of our own framing.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
    time::Duration,
};

use millpond::{
    cli::demo::server::ServerOptions,
    config,
    primary::{Connection, PrimaryError, Target, client},
};

use crate::support::{
    client::{execute, try_connect},
    postgres::{on_each_version, servers},
    wait::wait_until,
};

const HBA: &str = "\
host all postgres 127.0.0.1/32 trust
hostnossl all plainonly 127.0.0.1/32 trust
hostssl all tlsonly 127.0.0.1/32 scram-sha-256
host all scram 127.0.0.1/32 scram-sha-256
host all md5u 127.0.0.1/32 md5
host all clear 127.0.0.1/32 password
";

/// The roles that [`HBA`] names.
const ROLES: &str = "\
set password_encryption = 'scram-sha-256';
create role scram login password 'p@ss word';
create role tlsonly login password 'x';
create role plainonly login;
create role clear login password 'c';
set password_encryption = 'md5';
create role md5u login password 'm';
";

#[tokio::test]
async fn logins_by_every_method_and_sslmode() {
    let certificates = tempfile::tempdir().expect("a folder");
    let own = self_signed(certificates.path(), "own");
    let (root, other) = (own.certificate.clone(), self_signed(certificates.path(), "other").certificate);
    for shared in servers() {
        let server = shared.dedicated(ServerOptions { use_template: true, ..Default::default() });
        let superuser = crate::support::client::connect(&server.url("postgres", "postgres")).await;
        execute(&superuser, ROLES).await;
        own.install(&server.data_dir());
        execute(&superuser, "alter system set ssl = on").await;
        // Has the setting read too, and the rules before the certificate.
        server.set_hba(HBA).expect("pg_hba.conf can be replaced");
        let without_password = server.url("scram", "postgres");
        wait_until("the rules hold", async || try_connect(&without_password).await.is_err()).await;
        logins(server.port(), &root, &other).await;
    }
}

async fn logins(port: u16, root: &str, other: &str) {
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
        let parameters = parameters.replace("ROOT", root).replace("OTHER", other);
        let url = format!("postgres://{role}@{host}:{port}/postgres?{parameters}");
        let target = target(&url);
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
    let nowhere = target("postgres://me@127.0.0.1:1/x?sslmode=disable");
    let error = Connection::open(&nowhere).await.unwrap_err();
    assert!(matches!(error, PrimaryError::Unreachable { .. }), "{error}");
}

/// Whether the server says that our own connection is encrypted.
async fn encryption(target: &Target) -> Result<bool, PrimaryError> {
    let mut connection = Connection::login(target, &[]).await?;
    let rows = connection.simple_query("select ssl from pg_stat_ssl where pid = pg_backend_pid()").await?;
    Ok(rows[0][0].as_deref() == Some("t"))
}

fn target(url: &str) -> Target {
    Target::parse(&config::Primary {
        url: url.to_owned(),
        password: None,
        passfile: None,
        start_timeout: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(10),
    })
    .unwrap()
}

/// A certificate for localhost and its key, in files.
struct SelfSigned {
    certificate: String,
    key: String,
}

fn self_signed(folder: &Path, name: &str) -> SelfSigned {
    let generated = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let path = |kind: &str| folder.join(format!("{name}.{kind}")).display().to_string();
    let files = SelfSigned { certificate: path("crt"), key: path("key") };
    fs::write(&files.certificate, generated.cert.pem()).expect("a file");
    fs::write(&files.key, generated.signing_key.serialize_pem()).expect("a file");
    files
}

impl SelfSigned {
    /// Where a server with default settings looks for them, as its user's, the key for it alone.
    fn install(&self, data_dir: &Path) {
        let owner = fs::metadata(data_dir).expect("the server has a folder");
        for (from, to) in [(&self.certificate, "server.crt"), (&self.key, "server.key")] {
            let to = data_dir.join(to);
            fs::copy(from, &to).expect("a copy");
            fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).expect("it is ours");
            chown(&to, Some(owner.uid()), Some(owner.gid())).expect("root may, and others change nothing");
        }
    }
}

/// Our own framing gives what the primary has, and a connection survives an error.
#[tokio::test]
async fn simple_queries_give_text() {
    on_each_version(async |database| {
        let url = &database.url;
        let mut connection = Connection::login(&target(url), &[("DateStyle", "SQL, DMY")]).await.unwrap();
        let rows = connection.simple_query("select 1, null, 'é'; select date '2020-01-31'").await.unwrap();
        let text = |t: &str| Some(t.to_owned());
        assert_eq!(rows, [vec![text("1"), None, text("é")], vec![text("31/01/2020")]]);
        let error = connection.simple_query("select 1/0").await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("22012"));
        assert_eq!(connection.simple_query("show datestyle").await.unwrap(), [[text("SQL, DMY")]]);
        assert_eq!(connection.parameter("DateStyle"), Some("SQL, DMY"));
        let long = connection.simple_query("select repeat('x', 3000000)").await.unwrap();
        assert_eq!(long[0][0].as_ref().map(String::len), Some(3_000_000));
    })
    .await;
}

/// A cancel request ends what its backend does.
#[tokio::test]
async fn a_cancel_request_cancels() {
    on_each_version(async |database| {
let url = &database.url;
    let mut connection = Connection::login(&target(url), &[]).await.unwrap();
    let (pid, key) = (connection.process_id(), connection.secret_key().clone());
    let admin = client(&target(url), "test").await.unwrap();
    let (result, ()) = tokio::join!(connection.simple_query("select pg_sleep(600)"), async {
        let state = "select coalesce(max(state), '') from pg_stat_activity where pid = $1 and query like '%pg_sleep%'";
        wait_until("the query runs", async || {
            admin.query_one(state, &[&pid]).await.unwrap().get::<_, String>(0) == "active"
        })
        .await;
        millpond::primary::cancel(&target(url), pid, &key).await.unwrap();
    });
    assert_eq!(result.unwrap_err().sqlstate(), Some("57014"));
})
.await;
}
