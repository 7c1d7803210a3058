//! The private folder of a server: who owns it, who still uses it, and what is in it.

use std::{
    env,
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use std::os::unix::process::CommandExt;

use super::{ServerError, detached, supervisor};

const PREFIX: &str = "millpond-postgres-";
const LOCK: &str = "owner.lock";

/// The user that PostgreSQL runs as where we are root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Lies in the temporary folder, belongs to the server's user, and is locked for as long as we live.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    account: Option<Account>,
    _lock: File,
}

impl Folder {
    /// Makes a new one, and removes those whose processes are gone.
    pub(super) fn create() -> Result<Folder, ServerError> {
        let account = account()?;
        let unlocked = scratch("new")?;
        let (path, lock) = Folder::adopt(&unlocked, account).inspect_err(|_| {
            let _ = fs::remove_dir_all(&unlocked);
        })?;
        let folder = Folder { path, account, _lock: lock };
        folder.remove_stale();
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn data_dir(&self) -> PathBuf {
        self.path.join("data")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("postgres.log")
    }

    pub(super) fn postmaster_pid(&self) -> PathBuf {
        postmaster_pid(&self.path)
    }

    /// One of PostgreSQL's programs, as the user that it accepts.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = detached(program);
        command.current_dir(&self.path);
        if let Some(account) = self.account {
            command.uid(account.uid).gid(account.gid);
        }
        command
    }

    /// Hands a file of ours to the server's user.
    pub(super) fn give(&self, path: &Path) -> io::Result<()> {
        give(path, self.account)
    }

    /// Takes the lock before the folder gets the name under which others look for abandoned ones.
    fn adopt(unlocked: &Path, account: Option<Account>) -> Result<(PathBuf, File), ServerError> {
        let lock = File::create(unlocked.join(LOCK)).map_err(ServerError::io("create a lock file"))?;
        lock.try_lock()
            .map_err(|error| ServerError::Io { what: "lock a new file".to_owned(), source: error.into() })?;
        give(unlocked, account).map_err(ServerError::io("give the folder to PostgreSQL's user"))?;
        let name = unlocked.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let path = env::temp_dir().join(name.replace("millpond-new-", PREFIX));
        fs::rename(unlocked, &path).map_err(ServerError::io(format!("create {}", path.display())))?;
        Ok((path, lock))
    }

    /// Removes the folders of processes that died together with their supervisor. Only those of
    /// the same user; a folder in use is locked, and a running server is never touched.
    fn remove_stale(&self) {
        let Ok(own) = fs::symlink_metadata(&self.path) else { return };
        let Ok(entries) = fs::read_dir(env::temp_dir()) else { return };
        for entry in entries.filter_map(Result::ok) {
            let path = entry.path();
            if entry.file_name().to_string_lossy().starts_with(PREFIX)
                && path != self.path
                && fs::symlink_metadata(&path).is_ok_and(|m| m.is_dir() && m.uid() == own.uid())
                && is_abandoned(&path)
            {
                // What cannot be removed is somebody's; the next start tries again.
                let _ = fs::remove_dir_all(&path);
            }
        }
    }
}

/// `None`: we are no root, PostgreSQL runs as ourselves.
pub(super) fn account() -> Result<Option<Account>, ServerError> {
    let probe = scratch("probe")?;
    let uid = fs::metadata(&probe).map(|metadata| metadata.uid());
    let _ = fs::remove_dir(&probe);
    if uid.map_err(ServerError::io("look at a folder of ours"))? != 0 {
        return Ok(None);
    }
    let passwd = fs::read_to_string("/etc/passwd").map_err(ServerError::io("read /etc/passwd"))?;
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| find_account(&passwd, name))
        .map(Some)
        .ok_or(ServerError::NoAccount)
}

/// A new folder in the temporary folder that only we can enter.
pub(super) fn scratch(purpose: &str) -> Result<PathBuf, ServerError> {
    let name = format!("millpond-{purpose}-{}-{:08x}", std::process::id(), rand::random::<u32>());
    let path = env::temp_dir().join(name);
    DirBuilder::new()
        .mode(0o700)
        .create(&path)
        .map_err(ServerError::io(format!("create {}", path.display())))?;
    Ok(path)
}

fn give(path: &Path, account: Option<Account>) -> io::Result<()> {
    account.map_or(Ok(()), |account| chown(path, Some(account.uid), Some(account.gid)))
}

fn find_account(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next()? == name;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        (found && uid != 0).then_some(Account { uid, gid })
    })
}

fn postmaster_pid(folder: &Path) -> PathBuf {
    folder.join("data").join("postmaster.pid")
}

/// Nobody holds the lock, and the server isn't running either.
fn is_abandoned(folder: &Path) -> bool {
    match File::open(folder.join(LOCK)) {
        Ok(file) => match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => return false,
        },
        // Half removed: a folder gets its name only when it has its lock.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(_) => return false,
    }
    match fs::read_to_string(postmaster_pid(folder)) {
        Ok(text) => match text.lines().next().unwrap_or_default().trim().parse() {
            Ok(pid) => supervisor::signal("0", pid).is_err(),
            Err(_) => true,
        },
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::{Account, find_account};

    #[test]
    fn finds_a_user_and_never_root() {
        let passwd = "root:x:0:0::/root:/bin/sh\npostgres:x:101:104:PostgreSQL:/x:/bin/sh\nbroken\n";
        assert_eq!(find_account(passwd, "postgres"), Some(Account { uid: 101, gid: 104 }));
        assert_eq!(find_account(passwd, "root"), None);
        assert_eq!(find_account(passwd, "nobody"), None);
    }
}
