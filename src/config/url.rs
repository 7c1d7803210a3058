//! The primary's URL: what can be said of it without a connection, and how to show it.

/// What stands in place of a secret.
const HIDDEN: &str = "***";

/// Parameters that may be shown; others are hidden, since libpq has several for secrets.
const SHOWN: &[&str] = &[
    "application_name",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "target_session_attrs",
    "user",
];

/// The URL without its secrets, for logs and messages. What is not understood is hidden.
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return HIDDEN.to_owned() };
    // The last '@' of all: a password may contain any other sign when it was not encoded as it should.
    let (user, rest) = match rest.rfind('@') {
        Some(at) => (&rest[..=at], &rest[at + 1..]),
        None => ("", rest),
    };
    let user = match user.find(':') {
        Some(colon) => format!("{}:{HIDDEN}@", &user[..colon]),
        None => user.to_owned(),
    };
    let (location, parameters) = match rest.split_once('?') {
        Some((location, parameters)) => (location, Some(parameters)),
        None => (rest, None),
    };
    let parameters = parameters.map(|parameters| {
        let shown = parameters.split('&').map(|parameter| match parameter.split_once('=') {
            Some((name, _)) if !SHOWN.contains(&name) => format!("{name}={HIDDEN}"),
            _ => parameter.to_owned(),
        });
        format!("?{}", shown.collect::<Vec<_>>().join("&"))
    });
    format!("{scheme}://{user}{location}{}", parameters.unwrap_or_default())
}

/// Checks the form of the URL; messages show none of it.
pub(super) fn check(url: &str) -> Result<(), String> {
    const WRITE: &str = "write such as 'postgres://millpond@db.example:5432/app?sslmode=verify-full'";
    let rest = url
        .strip_prefix("postgres://")
        .or_else(|| url.strip_prefix("postgresql://"))
        .ok_or_else(|| format!("is not a URL of PostgreSQL: {WRITE}"))?;
    // As conninfo_uri_parse_options does (fe-connect.c): user information ends at the first '@'
    // that comes before any '/'.
    let authority_end = rest.find('/').unwrap_or(rest.len());
    let location = match rest[..authority_end].find('@') {
        Some(at) => &rest[at + 1..],
        None => rest,
    };
    let (location, parameters) = location.split_once('?').unwrap_or((location, ""));
    let hosts = location.split('/').next().unwrap_or_default();
    for host in hosts.split(',') {
        let port = match host.rsplit_once(']') {
            Some((_, after)) => after.strip_prefix(':'),
            None => host.split_once(':').map(|(_, port)| port),
        };
        if let Some(port) = port.filter(|port| !port.is_empty())
            && !port.parse::<u16>().is_ok_and(|port| port > 0)
        {
            return Err(format!(
                "has a port that is no number from 1 to 65535: {WRITE}; in a password write '@', ':' and '/' as %40, %3A and %2F"
            ));
        }
    }
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=') {
            None => return Err(format!("has a parameter without a value: {WRITE}")),
            Some(("sslmode", mode)) => {
                let modes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
                if !modes.contains(&mode) {
                    return Err(format!("has an unknown sslmode: write one of {}", modes.join(", ")));
                }
            }
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let cases = [
            ("postgres://db/app", "postgres://db/app"),
            ("postgres://me@db/app", "postgres://me@db/app"),
            ("postgres://me:hunter2@db:5433/app", "postgres://me:***@db:5433/app"),
            ("postgres://me:hun@ter2@db/app", "postgres://me:***@db/app"),
            ("postgres://me:hun/ter?2@db/app", "postgres://me:***@db/app"),
            (
                "postgres://db/app?sslmode=require&password=hunter2",
                "postgres://db/app?sslmode=require&password=***",
            ),
            ("postgres://db/app?sslpassword=hunter2", "postgres://db/app?sslpassword=***"),
            ("host=db password=hunter2", "***"),
        ];
        for (url, shown) in cases {
            assert_eq!(without_password(url), shown);
        }
    }

    #[test]
    fn a_url_is_checked_as_libpq_reads_it() {
        let right = [
            "postgres://",
            "postgres:///app",
            "postgresql://me:secret@db.example:5432/app?sslmode=verify-full",
            "postgres://[::1]:5432,[::2]/app",
            "postgres://a:1,b:2/app",
            "postgres://%2Fvar%2Frun/app",
            "postgres://me:a?b@db/app",
        ];
        for url in right {
            assert_eq!(check(url), Ok(()), "{url}");
        }
        let wrong = [
            "",
            "db.example",
            "mysql://db/app",
            "host=db user=me",
            "postgres://db:port/app",
            "postgres://db:70000/app",
            "postgres://db:0/app",
            "postgres://[::1]:x/app",
            "postgres://db/app?sslmode=maybe",
            "postgres://db/app?sslmode",
        ];
        for url in wrong {
            assert!(check(url).is_err(), "{url}");
        }
    }
}
