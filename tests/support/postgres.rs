//! Real servers of every version that this machine has: one of each shared by all tests, and
//! others for tests that stop them.

use std::{
    env,
    path::Path,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use millpond::cli::demo::server::{Installation, Server, ServerError, ServerOptions, find_all};

use super::client;

/// A server that lives as long as the test program; it ends with it, however that ends.
pub(crate) struct Shared {
    installation: Installation,
    server: OnceLock<Server>,
}

/// The installations that the tests run on: the folders in `MILLPOND_TEST_PG_BINS` (separated as
/// in `PATH`), otherwise all that are found. Fails when there is none.
pub(crate) fn servers() -> &'static [Shared] {
    static SERVERS: OnceLock<Vec<Shared>> = OnceLock::new();
    SERVERS.get_or_init(|| {
        let installations = match env::var_os("MILLPOND_TEST_PG_BINS").filter(|dirs| !dirs.is_empty()) {
            Some(dirs) => env::split_paths(&dirs).map(|dir| installation(&dir)).collect(),
            None => find_all(),
        };
        assert!(!installations.is_empty(), "{}", ServerError::NotFound);
        installations
            .into_iter()
            .map(|installation| Shared { installation, server: OnceLock::new() })
            .collect()
    })
}

/// The newest of [`servers`], for tests where the version makes no difference.
pub(crate) fn newest() -> &'static Shared {
    let newest = servers().iter().max_by_key(|shared| shared.version_num());
    newest.expect("servers() is never empty")
}

/// Runs a test on a database of its own on each version.
pub(crate) async fn on_each_version(mut test: impl AsyncFnMut(Database)) {
    for shared in servers() {
        // Shown with the panic, if there is one.
        eprintln!("on {}", shared.installation.version);
        test(shared.database().await).await;
    }
}

impl Shared {
    /// The running server; the first caller starts it.
    pub(crate) fn server(&self) -> &Server {
        let options = ServerOptions { use_template: true, ..ServerOptions::default() };
        self.server.get_or_init(|| self.dedicated(options))
    }

    pub(crate) fn version_num(&self) -> u32 {
        self.installation.version_num
    }

    /// A new empty database with a name of its own. Replication slots belong to a database, and
    /// their names to the server: take them from [`Database::slot`].
    pub(crate) async fn database(&self) -> Database {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let superuser = client::connect(&self.server().url("postgres", "postgres")).await;
        client::execute(&superuser, &format!("create database {name}")).await;
        Database { url: self.server().url("postgres", &name), name, version_num: self.version_num() }
    }

    /// A server of this version for one test alone, with room for many clients; `options` add to
    /// that. Dropped, it is gone.
    pub(crate) fn dedicated(&self, options: ServerOptions) -> Server {
        // Compiling the catalogue's large queries takes longer than all else in them, half a second each.
        let settings = [
            ("max_wal_senders", "100"),
            ("max_replication_slots", "100"),
            ("max_connections", "400"),
            ("jit", "off"),
        ];
        let mut settings: Vec<(String, String)> =
            settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        settings.extend(options.settings);
        let bin_dir = Some(self.installation.bin_dir.clone());
        match Server::start(ServerOptions { bin_dir, settings, ..options }) {
            Ok(server) => server,
            Err(error) => panic!("cannot start {}: {error}: {error:?}", self.installation.version),
        }
    }
}

/// A database on a shared server.
pub(crate) struct Database {
    pub(crate) name: String,
    /// Of the superuser.
    pub(crate) url: String,
    pub(crate) version_num: u32,
}

impl Database {
    pub(crate) async fn connect(&self) -> tokio_postgres::Client {
        client::connect(&self.url).await
    }

    /// A name for a replication slot that no other test has.
    pub(crate) fn slot(&self, purpose: &str) -> String {
        format!("{}_{purpose}", self.name)
    }
}

fn installation(dir: &Path) -> Installation {
    match Installation::at(dir) {
        Some(installation) => installation,
        None => panic!("MILLPOND_TEST_PG_BINS: {}", ServerError::NotUsable(dir.to_owned())),
    }
}

#[tokio::test]
async fn each_test_has_a_database_of_its_own() {
    on_each_version(async |database: Database| {
        let client = database.connect().await;
        assert_eq!(client::value(&client, "select current_database()").await, database.name);
        assert_eq!(client::value(&client, "show server_version_num").await, database.version_num.to_string());
        assert_eq!(client::value(&client, "show wal_level").await, "logical");
        assert_eq!(
            client::value(
                &client,
                "select count(*) from pg_class where relnamespace = 'public'::regnamespace"
            )
            .await,
            "0"
        );
        let other = newest().database().await;
        assert_ne!(other.name, database.name);
    })
    .await;
}
