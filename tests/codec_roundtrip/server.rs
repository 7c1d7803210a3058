//! Clusters of our own, of every PostgreSQL on the machine.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tokio_postgres::{Client, NoTls};

/// The settings that the codec's text stands for.
const SETTINGS: &str = "set datestyle = 'ISO, MDY'; set intervalstyle = postgres; set timezone = 'UTC'; \
     set extra_float_digits = 3; set bytea_output = hex; set lc_monetary = 'C'";

/// A cluster of our own, stopped when dropped.
pub(crate) struct Cluster {
    bin: PathBuf,
    dir: tempfile::TempDir,
    owner: Option<(u32, u32)>,
}

impl Cluster {
    pub(crate) fn start(bin: &Path) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        // PostgreSQL refuses to run as root: another user owns the cluster then.
        let owner = (fs::metadata("/proc/self").unwrap().uid() == 0).then(unprivileged_user);
        if let Some((uid, gid)) = owner {
            chown(dir.path(), Some(uid), Some(gid)).unwrap();
        }
        let cluster = Cluster { bin: bin.to_owned(), dir, owner };
        let data = cluster.data();
        cluster
            .run("initdb", &["-D", &data, "-A", "trust", "-U", "postgres", "--locale=C", "-E", "UTF8", "-N"]);
        let socket_dir = cluster.dir.path().display();
        let options = format!("-k {socket_dir} -c listen_addresses= -c fsync=off -c max_stack_depth=2MB");
        let log = format!("{socket_dir}/log");
        cluster.run("pg_ctl", &["-D", &data, "-l", &log, "-w", "-o", &options, "start"]);
        cluster
    }

    fn data(&self) -> String {
        format!("{}/data", self.dir.path().display())
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(self.bin.join(program));
        command.args(arguments).current_dir(self.dir.path()).stdout(Stdio::null());
        if let Some((uid, gid)) = self.owner {
            command.uid(uid).gid(gid);
        }
        let status = command.status().unwrap();
        assert!(status.success(), "{program} {arguments:?}: {status}");
    }

    pub(crate) async fn connect(&self) -> Client {
        let config = format!("host={} user=postgres dbname=postgres", self.dir.path().display());
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(SETTINGS).await.unwrap();
        client
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.run("pg_ctl", &["-D", &self.data(), "-m", "immediate", "-w", "stop"]);
    }
}

fn unprivileged_user() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2).map(|id| id.parse().unwrap());
        Some((ids.next()?, ids.next()?))
    };
    find("postgres").or_else(|| find("nobody")).expect("a user other than root")
}

/// The directories with a PostgreSQL to test against.
pub(crate) fn servers() -> Vec<PathBuf> {
    let named = std::env::var("MILLPOND_TEST_PG_BIN").unwrap_or_default();
    let mut found: Vec<PathBuf> = named.split(':').filter(|dir| !dir.is_empty()).map(PathBuf::from).collect();
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    found.extend(installed.map(|entry| entry.path().join("bin")).filter(|bin| bin.join("initdb").exists()));
    found.sort();
    found.dedup();
    assert!(!found.is_empty(), "no PostgreSQL found; set MILLPOND_TEST_PG_BIN to its bin directory");
    found
}
