//! `millpond demo` from start to end, with a stand-in for the daemon.

use std::{
    env,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use millpond::cli::demo::{DemoError, DemoOptions, Service, run, run_until, shop};
use tokio::sync::Notify;

use crate::support::{
    client::{connect, try_connect, value},
    postgres::newest,
    wait::wait_until,
};

/// Names the folder of `postgres` for [`is_a_demo_until_a_signal`], and makes it do something.
const DEMO: &str = "MILLPOND_TEST_DEMO";

fn options() -> DemoOptions {
    DemoOptions { bin_dir: Some(newest().server().bin_dir().to_owned()), rate: 200, ..DemoOptions::default() }
}

/// The value of `url = ".."`.
fn primary_url(service: &Service) -> String {
    let (_, rest) = service.config_toml.split_once("url = \"").expect("a URL");
    rest.split_once('"').expect("its end").0.to_owned()
}

#[tokio::test]
async fn runs_until_it_is_stopped_and_takes_the_primary_with_it() {
    let stop = Arc::new(Notify::new());
    let url = Arc::new(Mutex::new(String::new()));
    let serve = async |mut service: Service| {
        let follower = connect(&primary_url(&service)).await;
        let orders = "select count(*) from orders";
        let before = value(&follower, orders).await;
        wait_until("the application places orders", async || value(&follower, orders).await != before).await;
        *url.lock().expect("nobody panicked") = primary_url(&service);
        service.ready.send(()).expect("the demo waits for it");
        stop.notify_one();
        service.shutdown.wait_for(|stop| *stop).await.expect("the demo says when to end");
        // The primary outlives the daemon.
        assert_eq!(value(&follower, "select current_database()").await, shop::DATABASE);
        Ok(())
    };
    run_until(options(), serve, stop.notified()).await.expect("a demo in order");
    let url = url.lock().expect("nobody panicked").clone();
    assert!(try_connect(&url).await.is_err(), "the primary is gone");
}

#[tokio::test]
async fn ends_with_the_daemon() {
    let serve = async |_| Err("no more water".into());
    match run_until(options(), serve, std::future::pending()).await {
        Err(DemoError::Serve(error)) => assert_eq!(error.to_string(), "no more water"),
        other => panic!("{other:?}"),
    }
}

/// This program once more, running [`is_a_demo_until_a_signal`] alone.
#[tokio::test]
async fn a_signal_ends_it_in_order() {
    for signal in ["INT", "TERM"] {
        let mut demo = Command::new(env::current_exe().expect("this program"))
            .args(["--exact", "demo::session::is_a_demo_until_a_signal", "--nocapture"])
            .env(DEMO, newest().server().bin_dir())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts");
        let mut lines = BufReader::new(demo.stdout.take().expect("its output")).lines().map_while(Result::ok);
        let data_dir = lines
            .find_map(|line| line.split_once("data_directory=").map(|(_, dir)| PathBuf::from(dir)))
            .expect("it says where its primary is");
        let port_shown =
            lines.any(|line| line.contains("psql -h 127.0.0.1 -p ") && line.contains("-U shop shop"));
        assert!(port_shown, "it says what to try");
        assert!(data_dir.exists());
        let kill = format!("kill -s {signal} {}", demo.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
        assert!(lines.any(|line| line.contains("daemon ended")), "the daemon is told");
        assert!(demo.wait().expect("it ends").success());
        assert!(!data_dir.parent().is_some_and(Path::exists), "nothing is left, and nobody had to wait");
    }
}

/// Does nothing unless [`a_signal_ends_it_in_order`] starts it.
#[tokio::test]
async fn is_a_demo_until_a_signal() {
    let Some(bin_dir) = env::var_os(DEMO) else { return };
    let serve = async |mut service: Service| {
        let follower = connect(&primary_url(&service).replace("millpond@", "postgres@")).await;
        println!("data_directory={}", value(&follower, "show data_directory").await);
        service.ready.send(()).expect("the demo waits for it");
        service.shutdown.wait_for(|stop| *stop).await.expect("the demo says when to end");
        println!("daemon ended");
        Ok(())
    };
    let options = DemoOptions { bin_dir: Some(bin_dir.into()), ..DemoOptions::default() };
    run(options, serve).await.expect("a demo in order");
}
