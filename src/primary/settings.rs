//! The two spellings of a connection string, read as libpq reads them (`fe-connect.c`).

use super::PrimaryError;

/// The parameters of a connection string in order; a later one of the same name wins.
pub(super) type Settings = Vec<(String, String)>;

/// Splits `postgres://..`, `postgresql://..` or `key=value ..`.
pub(super) fn parse(text: &str) -> Result<Settings, PrimaryError> {
    match text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")) {
        Some(rest) => parse_url(rest),
        None if text.contains("://") => Err(PrimaryError::Url(
            "primary.url has an unknown scheme: write postgres://user@host:5432/database".into(),
        )),
        None => parse_pairs(text),
    }
}

fn parse_url(rest: &str) -> Result<Settings, PrimaryError> {
    let mut settings = Settings::new();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, hosts) = match authority.rsplit_once('@') {
        Some((login, hosts)) => (login, hosts),
        None => ("", authority),
    };
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (login, None),
    };
    let mut put = |name: &str, value: &str| -> Result<(), PrimaryError> {
        if !value.is_empty() {
            settings.push((name.into(), decode(value)?));
        }
        Ok(())
    };
    put("user", user)?;
    put("password", password.unwrap_or_default())?;
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',') {
        let (name, port) = match host.strip_prefix('[') {
            Some(v6) => {
                let (name, after) = v6.split_once(']').ok_or_else(|| {
                    PrimaryError::Url("primary.url has '[' without ']' around an IPv6 address".into())
                })?;
                (name, after.strip_prefix(':').unwrap_or_default())
            }
            None => host.split_once(':').unwrap_or((host, "")),
        };
        names.push(name);
        ports.push(port);
    }
    for (name, parts) in [("host", names), ("port", ports)] {
        if parts.iter().any(|part| !part.is_empty()) {
            put(name, &parts.join(","))?;
        }
    }
    put("dbname", database)?;
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or_else(|| {
            PrimaryError::Url(format!("primary.url has the parameter {pair:?} without a value: add =value"))
        })?;
        let (name, value) = (decode(name)?, decode(value)?);
        match (name.as_str(), value.as_str()) {
            // As libpq does for JDBC's sake.
            ("ssl", "true") => settings.push(("sslmode".into(), "require".into())),
            _ => settings.push((name, value)),
        }
    }
    Ok(settings)
}

fn decode(text: &str) -> Result<String, PrimaryError> {
    let bad = || PrimaryError::Url("primary.url has a '%' that is not followed by two hex digits".into());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, tail) = rest.split_first_chunk::<2>().ok_or_else(bad)?;
        let digits = std::str::from_utf8(digits).map_err(|_| bad())?;
        let value = u8::from_str_radix(digits, 16).map_err(|_| bad())?;
        if value == 0 {
            return Err(PrimaryError::Url("primary.url must not contain %00".into()));
        }
        bytes.push(value);
        rest = tail;
    }
    String::from_utf8(bytes)
        .map_err(|_| PrimaryError::Url("primary.url is not UTF-8 once its percent signs are decoded".into()))
}

/// `key = 'value with \' in it' key2=value2`.
fn parse_pairs(text: &str) -> Result<Settings, PrimaryError> {
    let mut settings = Settings::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(settings);
        }
        let mut name = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=' && !c.is_whitespace()) {
            name.push(c);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.next() != Some('=') {
            return Err(PrimaryError::Url(format!(
                "primary.url is neither postgres://.. nor key=value pairs: '=' is missing after {name:?}"
            )));
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match chars.next() {
                Some('\'') if quoted => break,
                Some(c) if !quoted && c.is_whitespace() => break,
                Some('\\') => value.extend(chars.next()),
                Some(c) => value.push(c),
                None if quoted => {
                    return Err(PrimaryError::Url(format!(
                        "primary.url has a quote without its end in the value of {name:?}"
                    )));
                }
                None => break,
            }
        }
        settings.push((name, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        parse(text).unwrap().into_iter().map(|(k, v)| format!("{k}={v}")).collect()
    }

    #[test]
    fn reads_urls() {
        assert_eq!(
            read("postgres://me:p%40ss@h1:1,[::1]:2,h3/app?sslmode=verify-full&options=-c%20a%3Db"),
            [
                "user=me",
                "password=p@ss",
                "host=h1,::1,h3",
                "port=1,2,",
                "dbname=app",
                "sslmode=verify-full",
                "options=-c a=b"
            ]
        );
        assert_eq!(read("postgresql://"), [""; 0]);
        assert_eq!(read("postgres:///app?host=/tmp&port=5433"), ["dbname=app", "host=/tmp", "port=5433"]);
        assert_eq!(read("postgres://%2Frun%2Fpg/app"), ["host=/run/pg", "dbname=app"]);
        assert_eq!(read("postgres://u@h?ssl=true"), ["user=u", "host=h", "sslmode=require"]);
    }

    #[test]
    fn reads_pairs() {
        assert_eq!(
            read(r"host = db.example  password='a \'b\' \\' dbname=x"),
            ["host=db.example", r"password=a 'b' \", "dbname=x"]
        );
        assert_eq!(read("  "), [""; 0]);
    }

    #[test]
    fn refuses_with_a_reason() {
        for bad in [
            "mysql://h/x",
            "postgres://[::1/x",
            "postgres://h/%zz",
            "postgres://h?a",
            "host",
            "a='b",
            "postgres://h/%00",
        ] {
            assert!(matches!(parse(bad), Err(PrimaryError::Url(_))), "{bad}");
        }
    }
}
