//! The program as a process of its own, with what it logs and what it takes.

use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use super::{client, wait::wait_until};

/// Killed when dropped.
pub(crate) struct Program {
    child: Child,
    folder: tempfile::TempDir,
    pub(crate) port: u16,
}

impl Program {
    /// Starts it with this configuration beside `primary.url`, the port and the admin port; `descriptors`
    /// is its `ulimit -n`. Waits until clients of `url`'s user get in.
    pub(crate) async fn start(url: &str, more: &str, descriptors: Option<u32>) -> Program {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let folder = tempfile::tempdir().expect("a folder");
        let toml = format!(
            "[primary]\nurl = \"{url}\"\n[listen]\naddress = \"{free}\"\n[admin]\nlisten = \"\"\n\
             [auth]\nallow_trust = true\n[[tables]]\nmatch = [\"cached\"]\n[log]\nfilter = \"info\"\n{more}\n"
        );
        let config = folder.path().join("millpond.toml");
        fs::write(&config, toml).expect("a file");
        let limit = descriptors.map(|n| format!("ulimit -n {n}; ")).unwrap_or_default();
        let child = Command::new("sh")
            .arg("-c")
            .arg(format!("{limit}exec \"$0\" serve --config \"$1\" 2> \"$2\""))
            .arg(env!("CARGO_BIN_EXE_millpond"))
            .args([config, folder.path().join("log")])
            .env_remove("PGPASSWORD")
            .stdout(Stdio::null())
            .spawn()
            .expect("the program starts");
        let program = Program { child, folder, port: free.port() };
        let database = url.rsplit('/').next().unwrap_or_default();
        let own = format!("postgres://postgres@127.0.0.1:{}/{database}", program.port);
        wait_until("cached is live", async || match client::try_connect(&own).await {
            Ok(client) => {
                let sql = "select name from millpond.tables where state = 'live'";
                client.simple_query(sql).await.is_ok_and(|messages| messages.len() > 2)
            }
            Err(_) => false,
        })
        .await;
        program
    }

    pub(crate) fn log(&self) -> String {
        let path: PathBuf = self.folder.path().join("log");
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }

    /// Resident memory.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).expect("the program runs, on Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Open files and sockets.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("the program runs").count()
    }

    /// Fails if anything in it has panicked, or it no longer runs.
    pub(crate) fn assert_sound(&mut self) {
        let log = self.log();
        assert!(!log.contains("panicked"), "{log}");
        assert_eq!(self.child.try_wait().expect("it is ours"), None, "it has ended: {log}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
