//! Configurations, right and wrong, through every source.

use std::{collections::BTreeSet, ffi::OsString, fs, time::Duration};

use super::{
    AuthMethod, Config, ConfigErrors, Flag, Forwarding, Sources, TableMode, load::load, machine::Machine,
    raw::Report,
};

const MACHINE: Machine = Machine { cores: 6, memory_bytes: 8 << 30 };
const DEFAULTS: &str = include_str!("../../config/millpond.toml");
/// What has no default.
const MINIMAL: &str = "[primary]\nurl = 'postgres://me:hunter2@db/app'\n[[tables]]\nmatch = ['public.*']\n";

/// Loads a file's text with variables and flags beside it; also returns the accepted keys.
fn load_text(
    text: &str,
    variables: &[(&str, &str)],
    flags: &[(&'static str, &'static str, &str)],
) -> (Result<Config, ConfigErrors>, BTreeSet<String>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("millpond.toml");
    fs::write(&path, text).unwrap();
    let sources = Sources {
        file: Some(path),
        environment: variables
            .iter()
            .map(|(name, text)| (OsString::from(name), OsString::from(text)))
            .collect(),
        flags: flags.iter().map(|&(name, key, value)| Flag { name, key, value: value.into() }).collect(),
    };
    let report = Report::new(Some("millpond.toml".into()));
    let config = load(&sources, MACHINE, &report);
    let accepted = report.accepted().into_iter().collect();
    (report.into_result(config), accepted)
}

fn config(text: &str) -> Config {
    load_text(text, &[], &[]).0.unwrap_or_else(|errors| panic!("{errors}"))
}

fn errors(text: &str) -> Vec<super::KeyError> {
    load_text(text, &[], &[]).0.expect_err("the configuration is wrong").errors
}

/// The file under `config/` with every example written out; files named in it are made.
fn defaults_with_examples(dir: &std::path::Path) -> String {
    let example = |line: &str| {
        let rest = line.strip_prefix("# ")?;
        let key = rest
            .split_once(" = ")
            .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        (key || (rest.starts_with('[') && rest.ends_with(']'))).then(|| rest.to_owned())
    };
    let text: Vec<_> = DEFAULTS.lines().map(|line| example(line).unwrap_or_else(|| line.into())).collect();
    let mut text = text.join("\n");
    for name in ["pgpass", "server.crt", "server.key", "clients.crt"] {
        let path = dir.join(name);
        fs::write(&path, "").unwrap();
        text = text.replace(&format!("/etc/millpond/{name}"), path.to_str().unwrap());
    }
    text
}

/// Paths of the keys of a TOML text of the simple form that ours has.
fn keys_of(text: &str) -> BTreeSet<String> {
    let mut table = String::new();
    let mut keys = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(list) = line.strip_prefix("[[").and_then(|l| l.strip_suffix("]]")) {
            table = format!("{list}[]");
        } else if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            table = name.to_owned();
        } else if let Some((key, _)) = line.split_once(" = ") {
            keys.insert(format!("{table}.{key}").replace("auth.users.app", "auth.users.*"));
        }
    }
    keys
}

#[test]
fn the_file_of_defaults_says_what_the_program_does_without_it() {
    let flags = [("--primary-url", "primary.url", "postgres://db/app"), ("--tables", "tables", "public.*")];
    let without = load_text("", &[], &flags).0.unwrap();
    let with = load_text(DEFAULTS, &[], &flags).0.unwrap();
    assert_eq!(with, without);
    assert_eq!(with.listen.threads, 6);
    assert_eq!(with.memory.max_bytes, 6 << 30);
    assert_eq!(with.listen.address, "127.0.0.1:6543".parse().unwrap());
    assert_eq!(with.admin.listen, Some("127.0.0.1:9643".parse().unwrap()));
}

#[test]
fn the_file_of_defaults_lists_every_key_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let text = defaults_with_examples(dir.path());
    let (loaded, accepted) = load_text(&text, &[], &[]);
    let loaded = loaded.unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(keys_of(&text), accepted);
    assert!(loaded.listen.tls.is_some() && loaded.primary.passfile.is_some());
    assert_eq!(loaded.tables[0].mode, TableMode::Mirror);
    assert_eq!(loaded.auth.users[0].name, "app");
}

#[test]
fn values_are_read_in_every_form() {
    let config = config(
        "[primary]\nurl = 'postgresql://db/app'\nstart_timeout = '5min'\nconnect_timeout = '500 ms'\n\
         [listen]\naddress = '[::1]:7000'\nthreads = '3'\n\
         [[tables]]\nmatch = ['users', 'app.*']\nexclude = 'app.log, app.audit'\nexclude_columns = ['users.secret', 'app.t.c']\n\
         [[tables]]\nmatch = 'b.?_*'\nmode = 'mirror'\n\
         [replication]\nmode = 'logical'\nslot = 'mp_1'\nmax_transaction_bytes = 1048576\nslot_timeout = '1d'\n\
         [memory]\nmax_bytes = '50%'\n\
         [fallthrough]\nreads = 'reject'\nwrites = 'forward'\n\
         [auth]\nmethod = 'scram'\nallow_trust = 'on'\n[auth.users]\n\"o'neil.1\" = 'x'\nApp = 'y'\n\
         [limits]\nmax_message_bytes = '8MB'\n[admin]\nlisten = ''\n[log]\nfilter = 'warn,millpond::wire=trace'\n",
    );
    assert_eq!(config.primary.start_timeout, Duration::from_secs(300));
    assert_eq!(config.primary.connect_timeout, Duration::from_millis(500));
    assert_eq!((config.listen.address, config.listen.threads), ("[::1]:7000".parse().unwrap(), 3));
    assert_eq!(config.tables[0].matches, ["users", "app.*"]);
    assert_eq!(config.tables[0].exclude, ["app.log", "app.audit"]);
    assert_eq!(config.tables[0].exclude_columns, ["users.secret", "app.t.c"]);
    assert_eq!(config.tables[1].matches, ["b.?_*"]);
    assert_eq!(config.replication.max_transaction_bytes, 1 << 20);
    assert_eq!(config.replication.slot_timeout, Duration::from_secs(86_400));
    assert_eq!(config.memory.max_bytes, 4 << 30);
    assert_eq!(config.fallthrough.reads, Forwarding::Reject);
    assert_eq!(config.fallthrough.writes, Forwarding::Forward);
    assert_eq!((config.auth.method, config.auth.allow_trust), (AuthMethod::Scram, true));
    let users: Vec<_> = config.auth.users.iter().map(|user| (&*user.name, &*user.password)).collect();
    assert_eq!(users, [("App", "y"), ("o'neil.1", "x")]);
    assert_eq!(config.limits.max_message_bytes, 8 << 20);
    assert_eq!(config.admin.listen, None);
}

#[test]
fn flags_override_environment_overrides_file_overrides_defaults() {
    let file = format!(
        "{MINIMAL}[replication]\nslot = 'file'\npublication = 'file'\ncopy_workers = 3\n[listen]\naddress = '127.0.0.1:1'\n"
    );
    let variables = [
        ("MILLPOND_REPLICATION__SLOT", "env"),
        ("MILLPOND_REPLICATION__PUBLICATION", "env"),
        ("MILLPOND_LISTEN", "127.0.0.1:2"),
        ("MILLPOND_LISTEN__THREADS", "9"),
        ("MILLPOND_ADMIN__LISTEN", ""),
        ("MILLPOND_AUTH__ALLOW_TRUST", "true"),
        // Set by others, and none of our business.
        ("MILLPOND_PORT", "tcp://10.0.0.1:6543"),
        ("MILLPOND_SERVICE_HOST", "10.0.0.1"),
        ("OTHER__SLOT", "other"),
    ];
    let flags = [("--slot", "replication.slot", "flag"), ("--listen", "listen.address", "127.0.0.1:3")];
    let config = load_text(&file, &variables, &flags).0.unwrap();
    assert_eq!(config.replication.slot, "flag");
    assert_eq!(config.replication.publication, "env");
    assert_eq!(config.replication.copy_workers, 3);
    assert_eq!(config.replication.status_interval, Duration::from_secs(1));
    assert_eq!((config.listen.address, config.listen.threads), ("127.0.0.1:3".parse().unwrap(), 9));
    assert_eq!(config.admin.listen, None);
    assert!(config.auth.allow_trust);
}

#[test]
fn tables_of_flag_and_variable_replace_those_of_the_file() {
    let (config, _) = load_text(MINIMAL, &[("MILLPOND_TABLES", "a, b.*")], &[]);
    assert_eq!(config.unwrap().tables[0].matches, ["a", "b.*"]);
    let (config, _) = load_text(MINIMAL, &[("MILLPOND_TABLES", "a")], &[("--tables", "tables", "c,d")]);
    let config = config.unwrap();
    assert_eq!(config.tables.len(), 1);
    assert_eq!(config.tables[0].matches, ["c", "d"]);
}

#[test]
fn a_text_by_itself_is_a_configuration() {
    assert_eq!(Config::from_toml(MINIMAL).unwrap().tables[0].matches, ["public.*"]);
    let keys =
        |text| Config::from_toml(text).unwrap_err().errors.into_iter().map(|e| e.key).collect::<Vec<_>>();
    assert_eq!(keys("[cache]\nenabled = 2\n"), ["cache.enabled", "tables", "primary.url"]);
    assert_eq!(keys("[cache"), ["--config"]);
}

#[test]
fn a_plain_proxy_needs_no_tables() {
    let config = config("[primary]\nurl = 'postgres://db/app'\n[cache]\nenabled = false\n");
    assert!(config.tables.is_empty() && !config.cache.enabled);
}

#[test]
fn each_wrong_key_is_named() {
    let cases: &[(&str, &[&str])] = &[
        // Unknown keys, at every level.
        ("speed = 1", &["speed"]),
        ("[replicatoin]\nslot = 'a'", &["replicatoin"]),
        ("[replication]\nslott = 'a'\nslot = 'b'", &["replication.slott"]),
        ("[listen.tsl]\ncert = 'a'", &["listen.tsl"]),
        ("[[tables]]\nmatch = ['a']\nexclude_column = ['a.b']", &["tables[1].exclude_column"]),
        // Wrong types.
        (
            "[replication]\nslot = 1\ncopy_workers = 'many'\npublication = true",
            &["replication.slot", "replication.publication", "replication.copy_workers"],
        ),
        ("[listen]\naddress = 6543\nthreads = 1.5", &["listen.threads", "listen.address"]),
        ("[cache]\nenabled = 'maybe'", &["cache.enabled"]),
        ("[log]\njson = 1", &["log.json"]),
        ("listen = '127.0.0.1:1'", &["listen"]),
        ("memory = 1", &["memory"]),
        ("auth.users = 'me'", &["auth.users"]),
        ("auth.users.me = 1", &["auth.users.me"]),
        // Times and sizes.
        (
            "[primary]\nstart_timeout = 30\nconnect_timeout = '30'",
            &["primary.start_timeout", "primary.connect_timeout"],
        ),
        (
            "[replication]\nslot_timeout = '500 m'\nlock_timeout = '-1s'\nstatus_interval = '0s'\ncatalog_interval = 's'",
            &[
                "replication.slot_timeout",
                "replication.lock_timeout",
                "replication.status_interval",
                "replication.catalog_interval",
            ],
        ),
        ("[freshness]\nwait_timeout = '9999999999999999999h'", &["freshness.wait_timeout"]),
        ("[memory]\nmax_bytes = '256mb'", &["memory.max_bytes"]),
        ("[memory]\nmax_bytes = '101%'", &["memory.max_bytes"]),
        ("[memory]\nmax_bytes = -5", &["memory.max_bytes"]),
        ("[limits]\nmax_message_bytes = '1GB'", &["limits.max_message_bytes"]),
        ("[limits]\nmax_message_bytes = '50%'", &["limits.max_message_bytes"]),
        ("[replication]\nmax_transaction_bytes = '99999999999TB'", &["replication.max_transaction_bytes"]),
        // Ranges.
        (
            "[limits]\nmax_connections = 0\nmax_statements = -1",
            &["limits.max_connections", "limits.max_statements"],
        ),
        ("[replication]\ncopy_workers = 65", &["replication.copy_workers"]),
        // Addresses and names.
        ("[listen]\naddress = 'localhost'", &["listen.address"]),
        ("[admin]\nlisten = ':9643'", &["admin.listen"]),
        ("[admin]\nlisten = '127.0.0.1:6543'", &["admin.listen"]),
        ("[listen]\nunix_socket_dir = 'run'", &["listen.unix_socket_dir"]),
        (
            "[replication]\nslot = 'Mill-Pond'\npublication = ''",
            &["replication.slot", "replication.publication"],
        ),
        ("[[tables]]\nmatch = ['a.b.c', 'a.', 'fine']", &["tables[1].match"]),
        ("[[tables]]\nmatch = []", &["tables[1].match"]),
        ("[[tables]]\nexclude = ['a']", &["tables[1].match"]),
        ("[[tables]]\nmatch = ['a']\nexclude_columns = ['secret']", &["tables[1].exclude_columns"]),
        // Words.
        ("[fallthrough]\nreads = 'foward'\nwrites = 'yes'", &["fallthrough.reads", "fallthrough.writes"]),
        ("[replication]\nmode = 'physical'", &["replication.mode"]),
        ("[auth]\nmethod = 'md5'", &["auth.method"]),
        ("[auth]\nmethod = 'scram'", &["auth.users"]),
        ("[auth]\nmethod = 'scram'\nusers.me = ''", &["auth.users.me"]),
        ("[log]\nfilter = 'a=b=c'", &["log.filter"]),
        // Files.
        ("[listen.tls]\ncert = '/does/not/exist'", &["listen.tls.cert", "listen.tls.key"]),
        ("[listen.tls]", &["listen.tls.cert", "listen.tls.key"]),
        ("[primary]\npassfile = '/'", &["primary.passfile"]),
    ];
    for (text, keys) in cases {
        // Top-level keys must come before any table.
        let minimal = "primary.url = 'postgres://db/app'\ntables = [{ match = ['public.*'] }]\n";
        let text = match text.split_once("[primary]\n") {
            Some((_, rest)) => {
                format!("tables = [{{ match = ['a'] }}]\n[primary]\nurl = 'postgres://db/app'\n{rest}")
            }
            None if text.contains("[[tables]]") => {
                format!("primary.url = 'postgres://db/app'\n[[tables]]\nmatch = ['a']\n{text}")
            }
            None => format!("{minimal}{text}"),
        };
        let errors = errors(&text);
        let found: BTreeSet<_> = errors.iter().map(|error| error.key.as_str()).collect();
        assert_eq!(found, keys.iter().copied().collect::<BTreeSet<_>>(), "{text}\n{errors:#?}");
        assert!(errors.iter().all(|error| error.problem.len() > 10), "{errors:#?}");
    }
}

#[test]
fn keys_of_later_versions_are_refused_by_name() {
    let cases = [
        ("[[queries]]\nname = 'a'", "queries"),
        ("[results]\nttl = '1s'", "results"),
        ("[freshness]\ndefault = 'strict'", "freshness.default"),
        ("[freshness]\nmax_staleness = '1s'", "freshness.max_staleness"),
        ("[memory]\npolicy = 'lru'", "memory.policy"),
        ("[auth]\noffline_grace = '1h'", "auth.offline_grace"),
        ("[replication]\nmode = 'notify'", "replication.mode"),
        ("[replication]\nmode = 'poll'", "replication.mode"),
        ("[replication]\nmax_retained_wal = '1GB'", "replication.max_retained_wal"),
        ("[[tables]]\nmatch = ['a']\nmode = 'poll'", "tables[1].mode"),
        ("[[tables]]\nmatch = ['a']\nmode = 'track'", "tables[1].mode"),
        ("[[tables]]\nmatch = ['a']\nwhere = 'true'", "tables[1].where"),
        ("[[tables]]\nmatch = ['a']\nkey = ['id']", "tables[1].key"),
        ("[[tables]]\nmatch = ['a']\nindexes = [['id']]", "tables[1].indexes"),
        ("[[tables]]\nmatch = ['a']\nrefresh = { interval = '1s' }", "tables[1].refresh"),
        ("[[tables]]\nmatch = ['a']\nmax_bytes = '1MB'", "tables[1].max_bytes"),
    ];
    for (text, key) in cases {
        let errors = errors(&format!("{MINIMAL}{text}"));
        assert_eq!(errors.len(), 1, "{text}\n{errors:#?}");
        assert_eq!(errors[0].key, key);
        assert_eq!(errors[0].origin.as_deref(), Some("millpond.toml"));
        assert!(errors[0].problem.contains("not available in this version"), "{errors:#?}");
    }
}

#[test]
fn every_error_is_reported_at_once_with_its_origin() {
    let variables = [("MILLPOND_LIMITS__MAX_CONNECTIONS", "lots"), ("MILLPOND_LIMITS__SPEED", "1")];
    let flags = [("--slot", "replication.slot", "A B")];
    let (result, _) = load_text("[replication]\nlock_timeout = 5\n[memory]\nmax = 1\n", &variables, &flags);
    let errors = result.unwrap_err();
    let found: BTreeSet<_> =
        errors.errors.iter().map(|error| (error.key.as_str(), error.origin.as_deref())).collect();
    let expected = [
        ("limits.max_connections", Some("MILLPOND_LIMITS__MAX_CONNECTIONS")),
        ("limits.speed", Some("MILLPOND_LIMITS__SPEED")),
        ("memory.max", Some("millpond.toml")),
        ("primary.url", None),
        ("replication.lock_timeout", Some("millpond.toml")),
        ("replication.slot", Some("--slot")),
        ("tables", None),
    ];
    assert_eq!(found, BTreeSet::from(expected));
    let text = errors.to_string();
    assert!(text.starts_with("the configuration has 7 errors:\n"), "{text}");
    assert!(text.contains("tables: no tables are chosen: give --tables"), "{text}");
}

#[test]
fn a_file_that_cannot_be_read_or_parsed_is_named() {
    let missing = Sources { file: Some("/does/not/exist.toml".into()), ..Sources::default() };
    let errors = Config::load(&missing).unwrap_err().errors;
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].key, "--config");
    assert!(errors[0].problem.contains("/does/not/exist.toml"), "{errors:?}");

    let errors =
        load_text("[primary]\npassword = 'hunter2\n", &[("MILLPOND_LISTEN", "x")], &[]).0.unwrap_err();
    let keys: Vec<_> = errors.errors.iter().map(|error| error.key.as_str()).collect();
    assert_eq!(keys, ["--config", "listen.address"]);
    assert!(errors.errors[0].problem.contains("line 2"), "{errors}");
    assert!(!errors.to_string().contains("hunter2"), "{errors}");
}

#[test]
fn secrets_are_shown_neither_by_debug_nor_by_errors() {
    let text = format!("{MINIMAL}[auth]\nmethod = 'scram'\nusers.app = 'hunter2'\n");
    let variables = [("MILLPOND_PRIMARY__PASSWORD", "hunter2")];
    let shown = format!("{:?}", load_text(&text, &variables, &[]).0.unwrap());
    assert!(shown.contains("postgres://me:***@db/app"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");

    for url in
        ["postgres://me:hunter2@db:x/app", "http://me:hunter2@db", "postgres://me:hunter2@db/app?sslmode=no"]
    {
        let (result, _) = load_text(MINIMAL, &[("MILLPOND_PRIMARY_URL", url)], &[]);
        let errors = result.unwrap_err();
        assert_eq!(errors.errors[0].key, "primary.url");
        assert!(!errors.to_string().contains("hunter2"), "{errors}");
    }
}
