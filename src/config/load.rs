//! File, environment and flags to one [`Config`]. Flags override the environment, which overrides the
//! file, which overrides the defaults; every error is found before the first is shown.

use std::{ffi::OsString, fs, path::PathBuf, time::Duration};

use config::{ConfigError, File, FileFormat, Map, Source, Value, ValueKind};

use super::{
    Admin, Auth, AuthMethod, AuthUser, Cache, Config, ConfigErrors, Fallthrough, Forwarding, Freshness,
    Limits, Listen, ListenTls, Log, Memory, Primary, Replication, ReplicationMode, TableMode, TableRule,
    TlsVersion,
    machine::Machine,
    raw::{ListOrText, Report, Section},
    url,
    value::{self, Parsed},
};

/// Variables that name no nested key. Others without two underscores are not ours: Kubernetes sets
/// `MILLPOND_PORT` and the like in every container beside a service of that name.
const SHORT_VARIABLES: &[(&str, &str)] = &[
    ("MILLPOND_PRIMARY_URL", "primary.url"),
    ("MILLPOND_LISTEN", "listen.address"),
    ("MILLPOND_TABLES", "tables"),
];

/// The error that stands for the file as a whole.
const FILE_KEY: &str = "--config";

/// Where the configuration comes from, weakest first.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub file: Option<PathBuf>,
    /// All of the process's variables; those of Millpond are picked.
    pub environment: Vec<(OsString, OsString)>,
    pub flags: Vec<Flag>,
}

/// A value given on the command line.
#[derive(Clone, Debug)]
pub struct Flag {
    /// As the user wrote it, such as `--slot`.
    pub name: &'static str,
    /// The key it sets, such as `replication.slot`.
    pub key: &'static str,
    pub value: String,
}

impl Sources {
    /// Those of this process: its environment, and what the command line gave.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Sources {
        Sources { file, environment: std::env::vars_os().collect(), flags }
    }
}

impl Config {
    /// Reads and validates everything.
    ///
    /// # Errors
    /// All that is wrong, each with its key. A file that can't be read or parsed is reported along
    /// with what is wrong in environment and flags.
    pub fn load(sources: &Sources) -> Result<Config, ConfigErrors> {
        let report = Report::new(sources.file.as_ref().map(|path| path.display().to_string()));
        let config = load(sources, Machine::this(), &report);
        report.into_result(config)
    }

    /// Validates the text of a file by itself, without environment or flags.
    ///
    /// # Errors
    /// All that is wrong, each with its key.
    pub fn from_toml(text: &str) -> Result<Config, ConfigErrors> {
        let report = Report::new(None);
        let config = merge(Some(text), &Sources::default(), Machine::this(), &report);
        report.into_result(config)
    }
}

pub(super) fn load(sources: &Sources, machine: Machine, report: &Report) -> Config {
    let file = sources.file.as_ref().and_then(|path| {
        fs::read_to_string(path)
            .map_err(|error| {
                report.error(FILE_KEY, None, format!("{} cannot be read: {error}", path.display()));
            })
            .ok()
    });
    merge(file.as_deref(), sources, machine, report)
}

fn merge(file: Option<&str>, sources: &Sources, machine: Machine, report: &Report) -> Config {
    let layers = || [environment(&sources.environment, report), flags(&sources.flags)];
    let tree = match build(file, layers()) {
        Ok(tree) => tree,
        Err(error) => {
            report.error(FILE_KEY, None, parse_error(&error));
            // Without the file the layers are texts under keys that we chose: nothing to fail.
            build(None, layers()).unwrap_or_default()
        }
    };
    read(Section::root(report, tree), report, machine)
}

fn build(file: Option<&str>, layers: [Layer; 2]) -> Result<Map<String, Value>, ConfigError> {
    let mut builder = config::Config::builder();
    if let Some(text) = file {
        builder = builder.add_source(File::from_str(text, FileFormat::Toml));
    }
    for layer in layers {
        builder = builder.add_source(layer);
    }
    builder.build()?.cache.into_table()
}

/// What the parser of TOML says, without the line it shows, which may hold a password.
fn parse_error(error: &ConfigError) -> String {
    let text = match error {
        ConfigError::FileParse { cause, .. } => cause.to_string(),
        other => other.to_string(),
    };
    let is_excerpt =
        |line: &str| line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').starts_with('|');
    let lines: Vec<_> =
        text.lines().map(str::trim_end).filter(|line| !line.is_empty() && !is_excerpt(line)).collect();
    lines.join(": ")
}

/// Keys with their texts from one place.
#[derive(Clone, Debug)]
struct Layer {
    entries: Map<String, Value>,
}

impl Layer {
    fn new(entries: impl IntoIterator<Item = (String, String, String)>) -> Layer {
        let mut root = Map::new();
        for (key, origin, text) in entries {
            insert(&mut root, &key, Value::new(Some(&origin), text));
        }
        Layer { entries: root }
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.entries.clone())
    }
}

fn insert(table: &mut Map<String, Value>, key: &str, value: Value) {
    let Some((first, rest)) = key.split_once('.') else {
        table.insert(key.to_owned(), value);
        return;
    };
    let below =
        table.entry(first.to_owned()).or_insert_with(|| Value::new(None, ValueKind::Table(Map::new())));
    if !matches!(below.kind, ValueKind::Table(_)) {
        below.kind = ValueKind::Table(Map::new());
    }
    if let ValueKind::Table(below) = &mut below.kind {
        insert(below, rest, value);
    }
}

fn environment(variables: &[(OsString, OsString)], report: &Report) -> Layer {
    let mut entries = Vec::new();
    for (name, text) in variables {
        let Some(name) = name.to_str() else { continue };
        let short =
            SHORT_VARIABLES.iter().find(|(short, _)| *short == name).map(|(_, key)| (*key).to_owned());
        let nested = || {
            let key = name.strip_prefix("MILLPOND_")?;
            key.contains("__").then(|| key.to_ascii_lowercase().replace("__", "."))
        };
        // Nested names come after short ones, and so override them.
        let (key, rank) = match (short, nested()) {
            (Some(key), _) => (key, 0),
            (None, Some(key)) => (key, 1),
            (None, None) => continue,
        };
        match text.to_str() {
            Some(text) => entries.push((rank, (key, name.to_owned(), text.to_owned()))),
            None => report.error(&key, Some(name), "is not UTF-8"),
        }
    }
    entries.sort();
    Layer::new(entries.into_iter().map(|(_, entry)| entry))
}

fn flags(flags: &[Flag]) -> Layer {
    Layer::new(flags.iter().map(|flag| (flag.key.to_owned(), flag.name.to_owned(), flag.value.clone())))
}

fn read(mut root: Section<'_>, report: &Report, machine: Machine) -> Config {
    root.later("queries", "take it out");
    root.later("results", "take it out");
    let config = Config {
        primary: primary(root.section("primary")),
        listen: listen(root.section("listen"), machine),
        tables: tables(&mut root, report),
        replication: replication(root.section("replication")),
        fallthrough: fallthrough(root.section("fallthrough")),
        freshness: freshness(root.section("freshness")),
        memory: memory(root.section("memory"), machine),
        auth: auth(root.section("auth"), report),
        limits: limits(root.section("limits")),
        admin: admin(root.section("admin")),
        log: log(root.section("log")),
        cache: cache(root.section("cache")),
    };
    root.finish();
    // Without the file nobody knows what is missing.
    if !report.has_error(FILE_KEY) {
        if config.tables.is_empty() && config.cache.enabled && !report.has_error_below("tables") {
            let problem =
                "no tables are chosen: give --tables 'public.*', or [[tables]] with match = [\"public.*\"]";
            report.error("tables", None, problem);
        }
        if config.primary.url.is_empty() && !report.has_error("primary.url") {
            let problem = "is missing: give --primary-url, MILLPOND_PRIMARY_URL or url in [primary], such as 'postgres://millpond@db.example/app'";
            report.error("primary.url", None, problem);
        }
    }
    if config.admin.listen == Some(config.listen.address) && config.listen.address.port() != 0 {
        let problem =
            format!("{} is listen.address too: write another port, or \"\" for none", config.listen.address);
        report.error("admin.listen", None, problem);
    }
    config
}

fn primary(mut section: Section<'_>) -> Primary {
    let url = section.take("url", |written| {
        let text = value::text(written)?;
        url::check(&text).map(|()| text)
    });
    let password = section.take("password", value::text);
    let passfile = section.take("passfile", value::existing_file);
    let primary = Primary {
        url: url.unwrap_or_default(),
        password,
        passfile,
        start_timeout: section.take("start_timeout", value::duration).unwrap_or(Duration::from_secs(30)),
        connect_timeout: section.take("connect_timeout", value::duration).unwrap_or(Duration::from_secs(10)),
    };
    section.finish();
    primary
}

fn listen(mut section: Section<'_>, machine: Machine) -> Listen {
    let threads = section.take("threads", value::count(0, 1024)).unwrap_or(0);
    let listen = Listen {
        address: section.take("address", value::address).unwrap_or_else(|| ([127, 0, 0, 1], 6543).into()),
        unix_socket_dir: section.take("unix_socket_dir", |written| {
            let path = value::path(written)?;
            if path.is_absolute() {
                Ok(path)
            } else {
                Err(format!("{} is not an absolute path", path.display()))
            }
        }),
        unix_socket_permissions: section.take("unix_socket_permissions", value::permissions).unwrap_or(0o777),
        threads: if threads == 0 { machine.cores } else { count(threads) },
        tls: section.optional_section("tls").and_then(listen_tls),
    };
    section.finish();
    listen
}

fn listen_tls(mut section: Section<'_>) -> Option<ListenTls> {
    let cert = section.require("cert", value::existing_file, "is missing: [listen.tls] needs cert and key");
    let key = section.require("key", value::existing_file, "is missing: [listen.tls] needs cert and key");
    let client_ca = section.take("client_ca", value::existing_file);
    let min_version = section
        .take("min_version", value::choice(&[("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)], &[]))
        .unwrap_or(TlsVersion::V1_2);
    let required = section.take("required", value::boolean).unwrap_or(false) || client_ca.is_some();
    section.finish();
    Some(ListenTls { cert: cert?, key: key?, client_ca, min_version, required })
}

fn tables(root: &mut Section<'_>, report: &Report) -> Vec<TableRule> {
    match root.list("tables") {
        None => Vec::new(),
        Some(ListOrText::List(sections)) => sections.into_iter().map(table_rule).collect(),
        Some(ListOrText::Text(text)) => {
            let matches = value::split_commas(&text);
            for problem in matches.iter().filter_map(|pattern| value::table_pattern(pattern).err()) {
                report.error("tables", None, problem);
            }
            if matches.is_empty() {
                return Vec::new();
            }
            vec![TableRule { matches, exclude: vec![], exclude_columns: vec![], mode: TableMode::Mirror }]
        }
    }
}

fn table_rule(mut section: Section<'_>) -> TableRule {
    let all_rows =
        "without it the table is mirrored whole; take it out if that is right, or leave the table out";
    section.later("where", all_rows);
    section.later("key", "the replica identity is used; take it out");
    section.later("indexes", "the primary's own indexes are used; take it out");
    section.later("refresh", "mirrored tables follow every commit; take it out");
    section.later("max_bytes", "use memory.max_bytes, which bounds all tables together");
    let matches = section.require(
        "match",
        each(value::table_pattern, Some("names no table: write such as [\"public.*\"]")),
        "is missing: write such as match = [\"public.*\"]",
    );
    let rule = TableRule {
        matches: matches.unwrap_or_default(),
        exclude: section.take("exclude", each(value::table_pattern, None)).unwrap_or_default(),
        exclude_columns: section.take("exclude_columns", each(value::column_name, None)).unwrap_or_default(),
        mode: section
            .take("mode", value::choice(&[("mirror", TableMode::Mirror)], &["poll", "track"]))
            .unwrap_or(TableMode::Mirror),
    };
    section.finish();
    rule
}

/// A list of which each item is checked; `empty` is what to say of one without items.
fn each(
    check: fn(&str) -> Parsed<()>,
    empty: Option<&'static str>,
) -> impl FnOnce(&Value) -> Parsed<Vec<String>> {
    move |written| {
        let items = value::texts(written)?;
        if let (true, Some(problem)) = (items.is_empty(), empty) {
            return Err(problem.to_owned());
        }
        let problems: Vec<_> = items.iter().filter_map(|item| check(item).err()).collect();
        if problems.is_empty() { Ok(items) } else { Err(problems.join("; ")) }
    }
}

fn replication(mut section: Section<'_>) -> Replication {
    section.later("max_retained_wal", "set max_slot_wal_keep_size at the primary");
    let seconds = Duration::from_secs;
    let modes = [("auto", ReplicationMode::Auto), ("logical", ReplicationMode::Logical)];
    let replication = Replication {
        mode: section
            .take("mode", value::choice(&modes, &["notify", "poll"]))
            .unwrap_or(ReplicationMode::Auto),
        slot: section.take("slot", value::slot_name).unwrap_or_else(|| "millpond".into()),
        publication: section.take("publication", value::identifier).unwrap_or_else(|| "millpond".into()),
        checkpoint_dir: section.take("checkpoint_dir", value::path),
        // More take more of the primary's cores than a cache should while it starts.
        copy_workers: section.take("copy_workers", value::count(1, 64)).map_or(2, count),
        slot_timeout: section.take("slot_timeout", value::duration).unwrap_or(seconds(30)),
        lock_timeout: section.take("lock_timeout", value::duration).unwrap_or(seconds(5)),
        status_interval: section.take("status_interval", value::duration).unwrap_or(seconds(1)),
        catalog_interval: section.take("catalog_interval", value::duration).unwrap_or(seconds(1)),
        max_transaction_bytes: section
            .take("max_transaction_bytes", value::bytes(1 << 20, 1 << 50, None))
            .unwrap_or(1 << 30),
    };
    section.finish();
    replication
}

fn fallthrough(mut section: Section<'_>) -> Fallthrough {
    let words = [("forward", Forwarding::Forward), ("reject", Forwarding::Reject)];
    let fallthrough = Fallthrough {
        reads: section.take("reads", value::choice(&words, &[])).unwrap_or(Forwarding::Forward),
        writes: section.take("writes", value::choice(&words, &[])).unwrap_or(Forwarding::Reject),
    };
    section.finish();
    fallthrough
}

fn freshness(mut section: Section<'_>) -> Freshness {
    section.later("default", "take it out");
    section.later("max_staleness", "take it out");
    let freshness = Freshness {
        wait_timeout: section.take("wait_timeout", value::duration).unwrap_or(Duration::from_secs(1)),
    };
    section.finish();
    freshness
}

fn memory(mut section: Section<'_>, machine: Machine) -> Memory {
    section.later("policy", "take it out");
    // The rest is for connections, answers under way and the machine's other programs.
    let share = value::share(machine.memory_bytes, 75);
    let memory = Memory {
        max_bytes: section
            .take("max_bytes", value::bytes(16 << 20, 1 << 50, Some(machine.memory_bytes)))
            .or(share)
            .unwrap_or(machine.memory_bytes),
    };
    section.finish();
    memory
}

fn auth(mut section: Section<'_>, report: &Report) -> Auth {
    section.later("offline_grace", "while the primary is down, clients that are connected stay; take it out");
    let methods = [
        ("relay", AuthMethod::Relay),
        ("verifier", AuthMethod::Verifier),
        ("scram", AuthMethod::Scram),
        ("trust", AuthMethod::Trust),
    ];
    let method = section.take("method", value::choice(&methods, &[]));
    let allow_trust = section.take("allow_trust", value::boolean).unwrap_or(false);
    let users_key = section.key("users");
    let mut users = Vec::new();
    if let Some(mut section) = section.optional_section("users") {
        for (name, written) in section.take_rest() {
            match value::text(&written) {
                Ok(password) if !password.is_empty() => users.push(AuthUser { name, password }),
                Ok(_) => report.wrong(&section.key(&name), &written, "is empty: write the password"),
                Err(problem) => report.wrong(&section.key(&name), &written, problem),
            }
        }
    }
    if method == Some(AuthMethod::Scram) && users.is_empty() && !report.has_error_below("auth.users") {
        let problem = "no users: auth.method = \"scram\" needs [auth.users] with role = \"password\"";
        report.error(&users_key, None, problem);
    }
    section.finish();
    Auth { method: method.unwrap_or(AuthMethod::Relay), allow_trust, users }
}

fn limits(mut section: Section<'_>) -> Limits {
    // PostgreSQL itself takes no message of 1 GB or more (PQ_LARGE_MESSAGE_LIMIT).
    let message_bytes = value::bytes(1 << 10, (1 << 30) - 1, None);
    let limits = Limits {
        max_connections: section.take("max_connections", value::count(1, 1 << 20)).map_or(1000, count),
        max_connections_per_role: section
            .take("max_connections_per_role", value::count(0, 1 << 20))
            .filter(|bound| *bound > 0)
            .map(count),
        max_unauthenticated: section
            .take("max_unauthenticated", value::count(1, 1 << 20))
            .map_or(1000, count),
        max_unauthenticated_per_address: section
            .take("max_unauthenticated_per_address", value::count(1, 1 << 20))
            .map_or(500, count),
        max_logins: section.take("max_logins", value::count(1, 1 << 20)).map_or(32, count),
        max_accepts_per_second: section
            .take("max_accepts_per_second", value::count(1, 1 << 20))
            .map_or(5000, count),
        login_timeout: section.take("login_timeout", value::duration).unwrap_or(Duration::from_secs(15)),
        max_message_bytes: section
            .take("max_message_bytes", message_bytes)
            .and_then(|bytes| u32::try_from(bytes).ok())
            .unwrap_or(64 << 20),
        max_statements: section.take("max_statements", value::count(1, 1 << 20)).map_or(1000, count),
        max_upstream: section.take("max_upstream", value::count(0, 1 << 20)).map_or(80, count),
        upstream_wait: section.take("upstream_wait", value::duration).unwrap_or(Duration::from_secs(5)),
        upstream_idle: section.take("upstream_idle", value::duration).unwrap_or(Duration::from_secs(60)),
    };
    section.finish();
    limits
}

fn admin(mut section: Section<'_>) -> Admin {
    let listen = section.take("listen", |written| match value::text(written)?.as_str() {
        "" => Ok(None),
        _ => value::address(written).map(Some),
    });
    section.finish();
    Admin { listen: listen.unwrap_or_else(|| Some(([127, 0, 0, 1], 9643).into())) }
}

fn log(mut section: Section<'_>) -> Log {
    let filter = section.take("filter", |written| {
        let text = value::text(written)?;
        match tracing_subscriber::EnvFilter::builder().parse(&text) {
            Ok(_) => Ok(text),
            Err(error) => {
                Err(format!("'{text}' is not a filter, such as 'info,millpond::source=debug': {error}"))
            }
        }
    });
    let log = Log {
        filter: filter.unwrap_or_else(|| "info".into()),
        json: section.take("json", value::boolean).unwrap_or(false),
    };
    section.finish();
    log
}

fn cache(mut section: Section<'_>) -> Cache {
    let cache = Cache { enabled: section.take("enabled", value::boolean).unwrap_or(true) };
    section.finish();
    cache
}

/// A number that was bounded far below `usize` when it was read.
fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
