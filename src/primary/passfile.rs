//! The passfile: `host:port:database:user:password` lines
//! (<https://www.postgresql.org/docs/current/libpq-pgpass.html>).

use std::{os::unix::fs::PermissionsExt, path::Path};

use super::PrimaryError;

/// The lines of a passfile, in order.
#[derive(Clone, Default)]
pub(super) struct Passfile(Vec<[String; 5]>);

impl Passfile {
    /// Reads a file. One that others may read is not used, as libpq does.
    ///
    /// # Errors
    /// When `required` and the file cannot be read.
    pub(super) fn read(path: &Path, required: bool) -> Result<Passfile, PrimaryError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(_) if !required => return Ok(Passfile::default()),
            Err(error) => {
                return Err(PrimaryError::Url(format!(
                    "the passfile {} cannot be read ({error}): correct primary.passfile",
                    path.display()
                )));
            }
        };
        let mode = std::fs::metadata(path).map(|m| m.permissions().mode()).unwrap_or_default();
        if mode & 0o077 != 0 {
            tracing::warn!(
                "the passfile {path} is not used because others may read it: chmod 600 {path}",
                path = path.display()
            );
            return Ok(Passfile::default());
        }
        Ok(Passfile::parse(&text))
    }

    fn parse(text: &str) -> Passfile {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Passfile(lines.filter_map(|line| <[String; 5]>::try_from(fields(line)).ok()).collect())
    }

    /// The first line that fits.
    pub(super) fn password(&self, host: &str, port: u16, database: &str, user: &str) -> Option<&str> {
        let port = port.to_string();
        let fits = |pattern: &str, value: &str| pattern == "*" || pattern == value;
        self.0.iter().find_map(|[h, p, d, u, password]| {
            (fits(h, host) && fits(p, &port) && fits(d, database) && fits(u, user)).then_some(&**password)
        })
    }
}

/// Splits at colons; a backslash makes the next character plain. The password keeps its colons.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let c = match c {
            ':' if fields.len() < 5 => {
                fields.push(String::new());
                continue;
            }
            '\\' => chars.next().unwrap_or('\\'),
            c => c,
        };
        if let Some(last) = fields.last_mut() {
            last.push(c);
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_first_line_that_fits() {
        let file = Passfile::parse(concat!(
            "# a comment\n\nnonsense\n",
            "db:5432:app:me:a\\:b\\\\c\n",
            "\\:\\:1:*:*:me:v6\n",
            "*:*:*:me:rest:with:colons\n"
        ));
        assert_eq!(file.password("db", 5432, "app", "me"), Some("a:b\\c"));
        assert_eq!(file.password("::1", 1, "x", "me"), Some("v6"));
        assert_eq!(file.password("db", 5433, "app", "me"), Some("rest:with:colons"));
        assert_eq!(file.password("db", 5432, "app", "you"), None);
    }

    #[test]
    fn a_readable_file_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pass");
        std::fs::write(&path, "*:*:*:*:secret\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(Passfile::read(&path, true).unwrap().password("h", 1, "d", "u"), None);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Passfile::read(&path, true).unwrap().password("h", 1, "d", "u"), Some("secret"));
        assert!(Passfile::read(&dir.path().join("none"), true).is_err());
        assert!(Passfile::read(&dir.path().join("none"), false).is_ok());
    }
}
