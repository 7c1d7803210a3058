//! The PostgreSQL installations of this machine.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::ServerError;

/// The versions that Millpond works with.
const MAJORS: std::ops::RangeInclusive<u32> = 14..=18;

/// A folder with `initdb` and `postgres`; nothing else of PostgreSQL is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    pub bin_dir: PathBuf,
    /// As `postgres --version` prints it.
    pub version: String,
    /// As `server_version_num`: 150020 for 15.20.
    pub version_num: u32,
}

impl Installation {
    /// What is in this folder, `None` when it holds no usable PostgreSQL.
    pub fn at(bin_dir: &Path) -> Option<Installation> {
        if !bin_dir.join("initdb").is_file() {
            return None;
        }
        let version = first_line(Command::new(bin_dir.join("postgres")).arg("--version"))?;
        let version_num = parse_version(&version)?;
        let installation = Installation { bin_dir: bin_dir.to_owned(), version, version_num };
        MAJORS.contains(&installation.major()).then_some(installation)
    }

    pub fn major(&self) -> u32 {
        self.version_num / 10_000
    }
}

/// The PostgreSQL of `MILLPOND_DEMO_PG_BIN` where that is set, otherwise the newest of [`find_all`].
pub fn find_newest() -> Result<Installation, ServerError> {
    match env::var_os("MILLPOND_DEMO_PG_BIN").filter(|dir| !dir.is_empty()) {
        Some(dir) => Installation::at(Path::new(&dir)).ok_or_else(|| ServerError::NotUsable(dir.into())),
        None => find_all().into_iter().next().ok_or(ServerError::NotFound),
    }
}

/// All that are found, the newest first, one of each major version.
pub fn find_all() -> Vec<Installation> {
    let mut found: Vec<Installation> = candidates().iter().filter_map(|dir| Installation::at(dir)).collect();
    found.sort_by_key(|installation| std::cmp::Reverse(installation.version_num));
    found.dedup_by_key(|installation| installation.major());
    found
}

fn candidates() -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    // Debian and Ubuntu; Fedora and Red Hat; Homebrew on both architectures; Postgres.app.
    dirs.extend(children(Path::new("/usr/lib/postgresql"), "", "bin"));
    dirs.extend(children(Path::new("/usr"), "pgsql-", "bin"));
    dirs.extend(children(Path::new("/opt/homebrew/opt"), "postgresql", "bin"));
    dirs.extend(children(Path::new("/usr/local/opt"), "postgresql", "bin"));
    dirs.extend(children(Path::new("/Applications/Postgres.app/Contents/Versions"), "", "bin"));
    dirs.push(PathBuf::from("/usr/local/pgsql/bin"));
    if let Some(dir) = first_line(Command::new("pg_config").arg("--bindir")) {
        dirs.push(PathBuf::from(dir));
    }
    if let Some(path) = env::var_os("PATH") {
        dirs.extend(env::split_paths(&path).filter(|dir| dir.join("postgres").is_file()));
    }
    dirs
}

/// `<dir>/<prefix>*/<below>`
fn children(dir: &Path, prefix: &str, below: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path().join(below))
        .collect()
}

/// The first line that a program prints, `None` when it fails or isn't there.
fn first_line(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}

/// `postgres (PostgreSQL) 15.20 (Debian 15.20-1)` is 150020, `18beta1` is 180000.
fn parse_version(line: &str) -> Option<u32> {
    let version = line.strip_prefix("postgres (PostgreSQL) ")?;
    let (major, rest) = leading_number(version)?;
    let minor = rest.strip_prefix('.').and_then(leading_number).map_or(0, |(minor, _)| minor);
    major.checked_mul(10_000)?.checked_add(minor)
}

fn leading_number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn reads_versions_as_the_binaries_print_them() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)"), Some(150_020));
        assert_eq!(parse_version("postgres (PostgreSQL) 18.4"), Some(180_004));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta1"), Some(180_000));
        assert_eq!(parse_version("postgres (PostgreSQL) devel"), None);
        assert_eq!(parse_version("postgres (EnterpriseDB) 15.2"), None);
    }
}
