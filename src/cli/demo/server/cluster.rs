//! The data folder: `initdb`, or a copy of an earlier one, and its configuration.

use std::{
    collections::hash_map::DefaultHasher,
    env, fs,
    fs::{DirBuilder, Permissions},
    hash::{Hash, Hasher},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::{Auth, Installation, ServerError, ServerOptions, folder::Folder};

/// `sun_path` holds 104 bytes on macOS, 108 on Linux, with its final zero.
const MAX_SOCKET_PATH_BYTES: usize = 103;

/// Makes the data folder in `folder`, ready to start.
pub(super) fn create(
    installation: &Installation,
    options: &ServerOptions,
    folder: &Folder,
) -> Result<(), ServerError> {
    let template = options.use_template.then(|| template_path(installation, options)).flatten();
    match &template {
        Some(template) if template.is_dir() => {
            let give = |path: &Path| folder.give(path);
            copy_dir(template, &folder.data_dir(), &give)
                .map_err(ServerError::io(format!("copy {}", template.display())))?;
        }
        _ => initdb(installation, options, folder)?,
    }
    if let Some(template) = template.filter(|template| !template.is_dir()) {
        // Only time is lost without it.
        let _ = keep_template(&folder.data_dir(), &template);
    }
    configure(options, folder).map_err(ServerError::io("write postgresql.conf"))
}

fn initdb(installation: &Installation, options: &ServerOptions, folder: &Folder) -> Result<(), ServerError> {
    let mut command = folder.command(&installation.bin_dir.join("initdb"));
    command
        .arg("-D")
        .arg(folder.data_dir())
        .args(["--username=postgres", "--no-sync", "--encoding=UTF8", "--lc-messages=C"])
        .arg(format!("--locale={}", options.locale));
    let password_file = folder.path().join("password");
    match &options.auth {
        Auth::Trust => command.arg("--auth=trust"),
        Auth::Scram { password } => {
            write_private(&password_file, password)
                .and_then(|()| folder.give(&password_file))
                .map_err(ServerError::io("write the password for initdb"))?;
            command.arg("--auth=scram-sha-256").arg("--pwfile").arg(&password_file)
        }
    };
    let output = command.output().map_err(ServerError::io("run initdb"));
    let _ = fs::remove_file(&password_file);
    let output = output?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(ServerError::Initdb { output: String::from_utf8_lossy(&text).trim().to_owned() })
}

/// Appends our settings and then the caller's; the last of a name counts.
fn configure(options: &ServerOptions, folder: &Folder) -> io::Result<()> {
    let socket_dir = folder.path().to_string_lossy().into_owned();
    let has_sockets = socket_dir.len() + "/.s.PGSQL.65535".len() <= MAX_SOCKET_PATH_BYTES;
    let ours = [
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", if has_sockets { &socket_dir } else { "" }),
        ("wal_level", "logical"),
        ("max_wal_senders", "20"),
        ("max_replication_slots", "20"),
        ("max_connections", "200"),
        ("shared_buffers", "128MB"),
        ("fsync", if options.fsync { "on" } else { "off" }),
        ("log_line_prefix", "%m [%p] %q%u@%d %a "),
    ];
    let theirs = options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut text = String::from("\n# Of the throw-away server\n");
    for (name, value) in ours.into_iter().chain(theirs) {
        text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
    }
    fs::OpenOptions::new()
        .append(true)
        .open(folder.data_dir().join("postgresql.conf"))?
        .write_all(text.as_bytes())
}

/// Where a data folder of these options is kept, `None` where the place isn't ours alone.
fn template_path(installation: &Installation, options: &ServerOptions) -> Option<PathBuf> {
    let mut hasher = DefaultHasher::new();
    (&installation.bin_dir, &installation.version, &options.auth, &options.locale).hash(&mut hasher);
    let probe = super::folder::scratch("probe").ok()?;
    let own = fs::metadata(&probe).map(|metadata| metadata.uid());
    let _ = fs::remove_dir(&probe);
    let own = own.ok()?;
    let parent = env::temp_dir().join(format!("millpond-templates-{own}"));
    let _ = DirBuilder::new().mode(0o700).create(&parent);
    let metadata = fs::symlink_metadata(&parent).ok()?;
    let is_ours = metadata.is_dir() && metadata.uid() == own && metadata.mode() & 0o077 == 0;
    is_ours.then(|| parent.join(format!("{}-{:016x}", installation.version_num, hasher.finish())))
}

/// Copies aside and renames, so that a template is whole whenever it is there. The second of two
/// that do this at once finds the name taken, and drops its own.
fn keep_template(data_dir: &Path, template: &Path) -> io::Result<()> {
    let unfinished = template.with_extension(format!("{}-{:08x}", std::process::id(), rand::random::<u32>()));
    let result =
        copy_dir(data_dir, &unfinished, &|_| Ok(())).and_then(|()| fs::rename(&unfinished, template));
    if result.is_err() {
        let _ = fs::remove_dir_all(&unfinished);
    }
    result
}

/// Copies folders and files (a new cluster has no links), and hands each to its owner.
fn copy_dir(from: &Path, to: &Path, give: &dyn Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(to)?;
    give(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target, give)?;
        } else {
            fs::copy(entry.path(), &target)?;
            give(&target)?;
        }
    }
    Ok(())
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::File::create_new(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())
}
