//! What outlives us: a small shell that stops the server and removes its folder when this process
//! ends, however it ends.

use std::{
    io::{self, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

use super::{ServerError, detached};

/// Reads process ids; the last one (none when empty) is the server to stop when the pipe closes,
/// which the kernel sees to even after SIGKILL. A server that ends removes its `postmaster.pid` last
/// of all; its process is looked at too, but under an init that is slow to reap the dead look alive.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
pid=
while read -r line; do pid=$line; done
if [ -n "$pid" ]; then
    kill -QUIT "$pid"
    left=200
    while [ $left -gt 0 ] && [ -e "$1/data/postmaster.pid" ] && kill -0 "$pid"; do
        left=$((left - 1))
        sleep 0.05
    done
    [ $left -gt 0 ] || kill -KILL "$pid"
fi
rm -rf "$1"
"#;

#[derive(Debug)]
pub(super) struct Supervisor {
    shell: Child,
    /// Closed: the supervisor does its work.
    pids: Option<ChildStdin>,
}

impl Supervisor {
    /// Watches over `folder`, which it removes in the end.
    pub(super) fn start(folder: &Path) -> Result<Supervisor, ServerError> {
        let mut shell = detached(Path::new("/bin/sh"))
            .args(["-c", SCRIPT, "millpond-supervisor"])
            .arg(folder)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(ServerError::io("start /bin/sh"))?;
        let pids = shell.stdin.take();
        Ok(Supervisor { shell, pids })
    }

    /// From now on, this process is to be stopped too.
    pub(super) fn guard(&mut self, pid: u32) {
        self.tell(&format!("{pid}\n"));
    }

    /// The process is gone; its id may become someone else's.
    pub(super) fn release(&mut self) {
        self.tell("\n");
    }

    /// Does the work now, and waits for it.
    pub(super) fn finish(&mut self) {
        self.pids = None;
        let _ = self.shell.wait();
    }

    fn tell(&mut self, line: &str) {
        // A supervisor that was killed leaves us to clean up alone, as we do.
        if let Some(pids) = &mut self.pids {
            let _ = pids.write_all(line.as_bytes());
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Sends a signal by its name, without `SIG`. The shell's own `kill`: not every image has the
/// program.
pub(super) fn signal(name: &str, pid: u32) -> io::Result<()> {
    let status = Command::new("/bin/sh")
        .args(["-c", r#"kill -s "$1" "$2""#, "sh", name, &pid.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("kill -s {name} {pid} failed"))) }
}
