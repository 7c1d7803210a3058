//! The admin port, asked over TCP as a probe or a scraper would.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use super::*;
use crate::{lifecycle::shutdown::Shutdown, types::TableOid};

fn ask(address: SocketAddr, path: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

#[test]
fn says_whether_it_is_alive_and_ready_and_what_it_counted() {
    let (status, readiness, shutdown) = (Arc::new(Status::default()), Readiness::default(), Shutdown::new());
    let metrics = Arc::new(Metrics::new(Arc::clone(&status)));
    let port = readiness.latch("listen.address", "does not accept yet");
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let arguments = (Arc::clone(&status), Arc::clone(&metrics), readiness, shutdown.token());
    let thread = spawn(listener, arguments.0, arguments.1, arguments.2, arguments.3).unwrap();
    let readyz = || {
        let (status, _, body) = ask(address, "/readyz");
        (status, body)
    };
    let set = |oid, name: &str, state, reason: Option<&str>| {
        status.update_table(TableOid(oid), |table| {
            (table.schema, table.name) = ("public".into(), name.into());
            (table.state, table.reason) = (state, reason.map(str::to_owned));
        });
    };

    assert_eq!(ask(address, "/healthz").0, 200);
    assert_eq!(ask(address, "/elsewhere").0, 404);
    assert_eq!(readyz(), (503, "listen.address: does not accept yet\n".into()));

    set(1, "users", TableState::Copying, None);
    set(2, "log", TableState::Quarantined, Some("a row\nwas not found"));
    set(3, "views", TableState::Unsupported, Some("has no key"));
    port.release();
    let waiting = "public.users: copying\npublic.log: quarantined: a row was not found\n";
    assert_eq!(readyz(), (503, waiting.into()));

    set(1, "users", TableState::Live, None);
    set(2, "log", TableState::Live, None);
    assert_eq!(readyz(), (200, "ready\n".into()));
    port.hold("closed");
    assert_eq!(readyz(), (503, "listen.address: closed\n".into()));

    metrics.commits.inc();
    let (code, head, body) = ask(address, "/metrics");
    assert_eq!(code, 200);
    assert!(head.contains("content-type: application/openmetrics-text"), "{head}");
    assert!(body.contains("millpond_commits_applied_total 1\n"), "{body}");
    assert!(body.ends_with("# EOF\n"), "{body}");

    shutdown.request("test");
    thread.join().unwrap();
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = taken.local_addr().unwrap();
    let error = bind(address).unwrap_err().to_string();
    assert!(error.starts_with(&format!("admin.listen: {address} cannot be listened on")), "{error}");
}
