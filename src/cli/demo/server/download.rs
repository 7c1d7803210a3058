//! A PostgreSQL from the network, for machines that have none.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use postgresql_embedded::{PostgreSQL, Settings, VersionReq};

use super::{Installation, ServerError, folder};

/// Downloads the newest supported PostgreSQL once, and keeps it in the user's cache folder. Only
/// its binaries are used; it is initialised and started as any other.
pub async fn download() -> Result<Installation, ServerError> {
    let parent = cache_dir();
    fs::create_dir_all(&parent).map_err(ServerError::io(format!("create {}", parent.display())))?;

    let mut settings = Settings::new();
    // The crate makes two folders for a server that we don't want.
    let spare = [Some(settings.data_dir.clone()), settings.password_file.parent().map(Path::to_owned)];
    let scratch = folder::scratch("download")?;
    // Taken for initialised, so that it stops after the installation.
    let marked = fs::write(scratch.join("postgresql.conf"), "").map_err(ServerError::io("write a file"));
    settings.data_dir = scratch.clone();
    settings.installation_dir = parent;
    settings.version = VersionReq::parse(">=14, <19").unwrap_or(VersionReq::STAR);
    let mut postgresql = PostgreSQL::new(settings);
    let result = match marked {
        Ok(()) => postgresql.setup().await.map_err(ServerError::Download),
        Err(error) => Err(error),
    };
    for dir in spare.into_iter().flatten().chain([scratch]) {
        let _ = fs::remove_dir_all(dir);
    }
    result?;
    let bin_dir = postgresql.settings().binary_dir();
    Installation::at(&bin_dir).ok_or(ServerError::NotUsable(bin_dir))
}

/// Where a download is kept. The home folder of root is closed to the user that the server runs
/// as, so root keeps it where all can read it.
fn cache_dir() -> PathBuf {
    let base = if folder::account().is_ok_and(|account| account.is_some()) {
        PathBuf::from("/var/cache")
    } else {
        env::var_os("XDG_CACHE_HOME")
            .filter(|dir| !dir.is_empty())
            .map(PathBuf::from)
            .or_else(|| env::home_dir().map(|home| home.join(".cache")))
            .unwrap_or_else(env::temp_dir)
    };
    base.join("millpond").join("postgresql")
}
