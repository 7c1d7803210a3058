//! Wrong input at the start: one clear message, the right exit code, nothing left on the primary.

use std::{
    net::TcpListener,
    process::{Command, Output},
};

use millpond::cli::demo::server::{Auth, ServerOptions};

use crate::support::{client, postgres::servers, wait::wait_until};

/// Runs the program with these flags until it ends by itself.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millpond"));
    command.args(arguments).envs(environment.iter().copied());
    command.env_remove("PGPASSWORD").env("MILLPOND_ADMIN__LISTEN", "");
    command.output().expect("the program runs")
}

#[track_caller]
fn check(output: &Output, code: i32, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

fn serve(url: &str, more: &[&str]) -> Output {
    let arguments = ["serve", "--tables", "public.*", "--primary-url", url];
    let environment = [("MILLPOND_PRIMARY__START_TIMEOUT", "1s"), ("MILLPOND_LISTEN", "127.0.0.1:0")];
    run(&[&arguments, more].concat(), &environment)
}

#[test]
fn a_wrong_url_or_address_is_a_configuration_error() {
    check(&serve("mysql://db/app", &[]), 64, &["primary.url"]);
    check(&serve("postgres://db:port/app", &[]), 64, &["primary.url"]);
    check(&serve("postgres://db/app", &["--listen", "nowhere"]), 64, &["listen.address"]);
}

#[test]
fn a_primary_that_is_not_there_is_given_up_after_the_start_timeout() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    check(&serve(&format!("postgres://postgres@{free}/postgres"), &[]), 69, &["could not be reached"]);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let url = "postgres://postgres@127.0.0.1:1/postgres";
    check(&serve(url, &["--listen", &address]), 64, &["listen.address", &address]);
    check(&serve(url, &["--admin-listen", &address]), 64, &["admin.listen", &address]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_primary_refuses_is_said_with_its_remedy() {
    for shared in servers() {
        let options = ServerOptions { use_template: true, ..Default::default() };
        let server = shared.dedicated(options);
        let url = server.url("postgres", "postgres");
        let admin = client::connect(&url).await;
        client::execute(
            &admin,
            "create table t (id int primary key); create table keyless (id int);
             create role reader login; grant select on t to reader;
             create role replicator login replication",
        )
        .await;
        let as_role = |role: &str| server.url(role, "postgres");
        check(&serve(&as_role("nobody_here"), &[]), 64, &["nobody_here"]);
        check(&serve(&server.url("postgres", "no_such_database"), &[]), 64, &["no_such_database"]);
        check(&serve(&as_role("reader"), &[]), 64, &["alter role reader replication"]);
        check(&serve(&as_role("replicator"), &[]), 64, &["sql/setup.sql"]);
        let findings = run(&["check", "--primary-url", &url, "--tables", "keyless,gone"], &[]);
        let text = String::from_utf8_lossy(&findings.stdout);
        assert_eq!(findings.status.code(), Some(1), "{text}");
        for word in ["keyless", "replica identity", "gone", "do:"] {
            assert!(text.contains(word), "{word:?} is not in: {text}");
        }
        let slots = "select count(*) from pg_replication_slots";
        wait_until("no slot is left", async || client::value(&admin, slots).await == "0").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_and_a_low_wal_level() {
    for shared in servers() {
        let auth = Auth::Scram { password: "right".into() };
        let settings = vec![("wal_level".to_owned(), "replica".to_owned())];
        let server = shared.dedicated(ServerOptions { auth, settings, ..Default::default() });
        let right = server.url("postgres", "postgres");
        check(&serve(&right, &[]), 64, &["wal_level", "logical"]);
        let wrong = right.replace("right", "wrong");
        assert_ne!(right, wrong, "the password is in the URL");
        let refused = serve(&wrong, &[]);
        check(&refused, 64, &["password authentication failed"]);
        assert!(!String::from_utf8_lossy(&refused.stderr).contains("wrong@"), "the password is not shown");
    }
}
