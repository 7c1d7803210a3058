//! The throw-away server: starts on each version, comes back, and leaves nothing behind.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use millpond::cli::demo::server::{Auth, Server, ServerError, ServerOptions};

use crate::support::{
    client::{connect, execute, sqlstate, try_connect, value},
    postgres::{newest, servers},
    wait::wait_until,
};

/// Names the folder of `postgres` for [`holds_a_server_until_killed`], and makes it do something.
const HOLD: &str = "MILLPOND_TEST_HOLD_SERVER";

#[tokio::test]
async fn starts_on_each_version_and_leaves_nothing_behind() {
    for shared in servers() {
        let server = shared.dedicated(ServerOptions {
            settings: vec![("application_name".to_owned(), "it's".to_owned())],
            locale: "C".to_owned(),
            use_template: true,
            ..ServerOptions::default()
        });
        let client = connect(&server.url("postgres", "postgres")).await;
        assert_eq!(value(&client, "show server_version_num").await, server.version_num().to_string());
        assert_eq!(value(&client, "show wal_level").await, "logical");
        assert_eq!(value(&client, "show server_encoding").await, "UTF8");
        assert_eq!(value(&client, "show listen_addresses").await, "127.0.0.1");
        assert_eq!(value(&client, "select 'B' < 'a'").await, "t");
        let setting = "select setting from pg_file_settings where name = 'application_name'";
        assert_eq!(value(&client, setting).await, "it's");
        let (folder, pid) = (server.socket_dir().to_owned(), postmaster_pid(&server.data_dir()));
        assert!(folder.join(format!(".s.PGSQL.{}", server.port())).exists());
        drop(server);
        assert!(!folder.exists());
        assert!(!is_running(pid));
    }
}

#[tokio::test]
async fn recovers_after_a_crash_on_the_same_port() {
    for shared in servers() {
        let mut server = shared.dedicated(ServerOptions { fsync: true, ..ServerOptions::default() });
        let (url, port) = (server.url("postgres", "postgres"), server.port());
        execute(&connect(&url).await, "create table kept as select 1 as a").await;
        server.stop_immediate();
        assert!(try_connect(&url).await.is_err());
        server.restart().expect("it starts again");
        assert_eq!(server.port(), port);
        assert!(
            server.log_tail().contains("redo done") || server.log_tail().contains("redo is not required")
        );
        assert_eq!(value(&connect(&url).await, "select a from kept").await, "1");
        // Once more, in order, from running.
        server.restart().expect("it starts again");
        assert!(server.log_tail().contains("database system is shut down"));
        assert_eq!(value(&connect(&url).await, "select a from kept").await, "1");
    }
}

#[tokio::test]
async fn asks_for_the_password_under_scram() {
    let server = newest().dedicated(ServerOptions {
        auth: Auth::Scram { password: "s3cret/@:%".to_owned() },
        ..ServerOptions::default()
    });
    let client = connect(&server.url("postgres", "postgres")).await;
    execute(&client, "create role reader login password 'other'").await;
    let without = server.url("reader", "postgres");
    assert!(try_connect(&without).await.is_err());
    try_connect(&without.replace("reader@", "reader:other@")).await.expect("the right password");

    server.set_hba("host all reader 127.0.0.1/32 trust\n").expect("pg_hba.conf can be replaced");
    wait_until("the new rules admit the reader", async || try_connect(&without).await.is_ok()).await;
    let refused = try_connect(&server.url("postgres", "postgres")).await.expect_err("no rule is left");
    assert_eq!(refused.code().map(|code| code.code()), Some("28000"));
}

#[tokio::test]
async fn templates_share_the_system_identifier_and_nothing_else() {
    let identifier = "select system_identifier from pg_control_system()";
    let templated = ServerOptions { use_template: true, ..ServerOptions::default() };
    let first = newest().dedicated(templated.clone());
    let second = newest().dedicated(templated);
    let own = newest().dedicated(ServerOptions::default());
    let first_client = connect(&first.url("postgres", "postgres")).await;
    let second_client = connect(&second.url("postgres", "postgres")).await;
    let own_client = connect(&own.url("postgres", "postgres")).await;
    execute(&first_client, "create table only_here ()").await;
    assert_eq!(sqlstate(&second_client, "select from only_here").await, "42P01");
    assert_eq!(value(&first_client, identifier).await, value(&second_client, identifier).await);
    assert_ne!(value(&first_client, identifier).await, value(&own_client, identifier).await);
}

#[test]
fn says_what_is_wrong_with_a_start() {
    let bad_setting = ServerOptions {
        bin_dir: Some(newest().server().bin_dir().to_owned()),
        settings: vec![("no_such_setting".to_owned(), "1".to_owned())],
        ..ServerOptions::default()
    };
    match Server::start(bad_setting) {
        Err(ServerError::Exited { log, .. }) => assert!(log.contains("no_such_setting"), "{log}"),
        other => panic!("{other:?}"),
    }
    let bad_locale = ServerOptions {
        bin_dir: Some(newest().server().bin_dir().to_owned()),
        locale: "xx_nowhere".to_owned(),
        ..ServerOptions::default()
    };
    match Server::start(bad_locale) {
        Err(ServerError::Initdb { output }) => assert!(output.contains("xx_nowhere"), "{output}"),
        other => panic!("{other:?}"),
    }
    let no_folder = ServerOptions { bin_dir: Some(env::temp_dir()), ..ServerOptions::default() };
    assert!(matches!(Server::start(no_folder), Err(ServerError::NotUsable(dir)) if dir == env::temp_dir()));
}

/// This program once more, running [`holds_a_server_until_killed`] alone; killed as `kill -9` does.
#[tokio::test]
async fn a_killed_process_leaves_nothing_behind() {
    let mut holder = Command::new(env::current_exe().expect("this program"))
        .args(["--exact", "demo::server::holds_a_server_until_killed", "--nocapture"])
        .env(HOLD, newest().server().bin_dir())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program starts");
    let output = BufReader::new(holder.stdout.take().expect("its output"));
    let folder = output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.split_once("folder=").map(|(_, folder)| PathBuf::from(folder)))
        .expect("it says where its server is");
    let pid = postmaster_pid(&folder.join("data"));
    assert!(is_running(pid));
    holder.kill().expect("it can be killed");
    holder.wait().expect("it ends");
    wait_until("the folder is gone", async || !folder.exists()).await;
    wait_until("the server is gone", async || !is_running(pid)).await;
}

/// Does nothing unless [`a_killed_process_leaves_nothing_behind`] starts it.
#[test]
fn holds_a_server_until_killed() {
    let Some(bin_dir) = env::var_os(HOLD) else { return };
    let options = ServerOptions { bin_dir: Some(bin_dir.into()), ..ServerOptions::default() };
    let server = Server::start(options).expect("it starts");
    println!("folder={}", server.socket_dir().display());
    loop {
        std::thread::park();
    }
}

#[test]
fn folders_without_an_owner_are_removed_at_the_next_start() {
    let kept = newest().dedicated(ServerOptions::default());
    let abandoned = env::temp_dir().join(format!("millpond-postgres-{}-abandoned", std::process::id()));
    let unrelated = env::temp_dir().join(format!("millpond-postgres-{}-file", std::process::id()));
    fs::create_dir_all(abandoned.join("data")).expect("a folder");
    fs::write(abandoned.join("owner.lock"), "").expect("a lock that nobody holds");
    fs::write(&unrelated, "").expect("a file");
    give_as(&kept.data_dir(), &abandoned);

    drop(newest().dedicated(ServerOptions::default()));
    assert!(!abandoned.exists());
    assert!(unrelated.exists(), "only folders are ours");
    assert!(kept.data_dir().exists(), "a folder in use is locked");
    fs::remove_file(unrelated).expect("it was ours");
}

/// As the server's user where that is another one than ours.
fn give_as(example: &Path, path: &Path) {
    use std::os::unix::fs::{MetadataExt, chown};
    let example = fs::metadata(example).expect("the example is there");
    chown(path, Some(example.uid()), Some(example.gid())).expect("root may, and others change nothing");
}

fn postmaster_pid(data_dir: &Path) -> u32 {
    let text = fs::read_to_string(data_dir.join("postmaster.pid")).expect("the server runs");
    text.lines().next().and_then(|line| line.parse().ok()).expect("a process id")
}

/// Whether it is there and not merely unreaped.
fn is_running(pid: u32) -> bool {
    let output = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output();
    let output = output.expect("ps is there");
    let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    !state.is_empty() && !state.starts_with('Z')
}
