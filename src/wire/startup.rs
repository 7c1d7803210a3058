//! The startup packet (`ProcessStartupPacket` in `src/backend/tcop/backend_startup.c`), total on any
//! bytes.

use super::{error::Problem, frame::Fields};

/// `NAMEDATALEN` - 1
const MAX_NAME: usize = 63;
/// The newest protocol that we speak.
pub(super) const PROTOCOL_3_2: u32 = 196_610;
pub(super) const PROTOCOL_3_0: u32 = 196_608;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Startup {
    pub(super) user: String,
    pub(super) database: String,
    /// As agreed: 3.0 to 3.2.
    pub(super) protocol: u32,
    /// Whether the client has to be told what was agreed.
    pub(super) negotiate: bool,
    /// `_pq_.*` options, none of which we know.
    pub(super) unknown: Vec<String>,
    /// Everything but user, database and protocol options.
    pub(super) parameters: Vec<(String, String)>,
}

impl Startup {
    /// Reads what follows the protocol's number. Errors are worded as PostgreSQL words them, where it
    /// has the same.
    pub(super) fn read(code: u32, body: &[u8]) -> Result<Startup, Problem> {
        let (major, minor) = (code >> 16, code & 0xffff);
        if major != 3 {
            return Err(Problem::ProtocolVersion { major, minor });
        }
        let layout =
            || Problem::Startup("invalid startup packet layout: expected terminator as last byte".into());
        let mut fields = Fields(body);
        let (mut user, mut database) = (String::new(), String::new());
        let (mut unknown, mut parameters) = (Vec::new(), Vec::new());
        loop {
            let name = text(fields.string().map_err(|_| layout())?)?;
            if name.is_empty() {
                fields.end().map_err(|_| layout())?;
                break;
            }
            let value = text(fields.string().map_err(|_| layout())?)?;
            match name.as_str() {
                "user" => user = value,
                "database" => database = value,
                "replication" => match boolean(&value) {
                    Some(false) => {}
                    Some(true) => return Err(Problem::Replication),
                    None if value == "database" => return Err(Problem::Replication),
                    None => return Err(Problem::ReplicationValue { value }),
                },
                n if n.starts_with("_pq_.") => unknown.push(name),
                _ => parameters.push((name, value)),
            }
        }
        if user.is_empty() {
            return Err(Problem::NoUser);
        }
        if database.is_empty() {
            database.clone_from(&user);
        }
        if user.len() > MAX_NAME || database.len() > MAX_NAME {
            return Err(Problem::Startup("a name in the startup packet is longer than 63 bytes".into()));
        }
        let negotiate = code > PROTOCOL_3_2 || !unknown.is_empty();
        let protocol = code.clamp(PROTOCOL_3_0, PROTOCOL_3_2);
        Ok(Startup { user, database, protocol, negotiate, unknown, parameters })
    }
}

/// What is not UTF-8 could only be handed on to a primary of another encoding.
fn text(bytes: &[u8]) -> Result<String, Problem> {
    String::from_utf8(bytes.to_vec()).map_err(|error| Problem::Encoding {
        byte: bytes.get(error.utf8_error().valid_up_to()).copied().unwrap_or_default(),
    })
}

/// As `parse_bool`: unique beginnings of the words, in any case.
fn boolean(value: &str) -> Option<bool> {
    let value = value.to_ascii_lowercase();
    let begins = |word: &str, least: usize| value.len() >= least && word.starts_with(&value);
    if value == "1" || begins("true", 1) || begins("yes", 1) || begins("on", 2) {
        Some(true)
    } else if value == "0" || begins("false", 1) || begins("no", 1) || begins("off", 2) {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn startup_packets_are_read() {
        let body = b"user\0app\0_pq_.grease\0x\0application_name\0psql\0replication\0off\0\0";
        let startup = Startup::read(PROTOCOL_3_0 + 9999, body).unwrap();
        assert_eq!((startup.user.as_str(), startup.database.as_str()), ("app", "app"));
        assert_eq!((startup.protocol, startup.negotiate), (PROTOCOL_3_2, true));
        assert_eq!(startup.unknown, ["_pq_.grease"]);
        assert_eq!(startup.parameters, [("application_name".to_owned(), "psql".to_owned())]);
        for (code, agreed, negotiate) in [
            (PROTOCOL_3_0, PROTOCOL_3_0, false),
            (PROTOCOL_3_0 + 1, PROTOCOL_3_0 + 1, false),
            (PROTOCOL_3_2, PROTOCOL_3_2, false),
            (PROTOCOL_3_2 + 1, PROTOCOL_3_2, true),
            (0x3_ffff, PROTOCOL_3_2, true),
        ] {
            let startup = Startup::read(code, b"user\0a\0\0").unwrap();
            assert_eq!((startup.protocol, startup.negotiate), (agreed, negotiate), "{code}");
        }
    }

    #[test]
    fn bad_packets_are_refused() {
        let layout = [&b"user\0a"[..], b"user\0a\0\0x", b"user\0", b"user\0a\0\0\0", b"", b"user"];
        for body in layout {
            let read = Startup::read(PROTOCOL_3_0, body);
            assert!(matches!(read, Err(Problem::Startup(m)) if m.contains("terminator")), "{body:?}");
        }
        for (body, expected) in [
            (&b"\0"[..], Problem::NoUser),
            (b"user\0\0\0", Problem::NoUser),
            (b"database\0a\0\0", Problem::NoUser),
            (b"user\0\xff\0\0", Problem::Encoding { byte: 0xff }),
            (b"user\0a\0replication\0database\0\0", Problem::Replication),
            (b"user\0a\0replication\0TR\0\0", Problem::Replication),
            (b"user\0a\0replication\0o\0\0", Problem::ReplicationValue { value: "o".into() }),
        ] {
            assert_eq!(Startup::read(PROTOCOL_3_0, body), Err(expected));
        }
        for (code, major, minor) in
            [(2 << 16, 2, 0), (4 << 16 | 7, 4, 7), (0, 0, 0), (u32::MAX, 65535, 65535)]
        {
            assert_eq!(Startup::read(code, b"user\0a\0\0"), Err(Problem::ProtocolVersion { major, minor }));
        }
        let long = format!("user\0{}\0\0", "u".repeat(64));
        assert!(matches!(Startup::read(PROTOCOL_3_0, long.as_bytes()), Err(Problem::Startup(_))));
    }

    #[test]
    fn no_bytes_panic() {
        let mut random = StdRng::seed_from_u64(2);
        let mut read = 0;
        for _ in 0..20_000 {
            let parts = [&b"user\0"[..], b"\0", b"a\0", b"_pq_.", b"\xff", b"replication\0", b"x"];
            let body: Vec<u8> = (0..random.random_range(0..9))
                .flat_map(|_| parts[random.random_range(0..parts.len())].to_vec())
                .collect();
            let code = if random.random_bool(0.8) { PROTOCOL_3_0 } else { random.random() };
            if let Ok(startup) = Startup::read(code, &body) {
                assert!(!startup.user.is_empty());
                read += 1;
            }
        }
        assert!(read > 0, "some of the bytes were packets");
    }
}
