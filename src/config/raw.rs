//! The configuration as written: one tree of file, environment and flags, read key by key.
//!
//! Unknown keys are errors, not warnings: a misspelt `exclude_columns` would keep a secret in memory
//! that was meant to stay at the primary. Older configurations on newer programs go on working
//! because no key is ever removed without an error that says what stands in its place.
//!
//! The tree is read by hand and not through `serde`, which stops at the first error; whoever edits a
//! configuration wants all of them at once.

use std::cell::RefCell;

use config::{Map, Value, ValueKind};

use super::{ConfigErrors, KeyError};

/// Collects what is wrong, and which keys there are.
#[derive(Debug)]
pub(super) struct Report {
    errors: RefCell<Vec<KeyError>>,
    accepted: RefCell<Vec<String>>,
    /// Shown for values that carry no origin of their own.
    file: Option<String>,
}

impl Report {
    pub(super) fn new(file: Option<String>) -> Report {
        Report { errors: RefCell::default(), accepted: RefCell::default(), file }
    }

    /// A value is wrong; `origin` is its own.
    pub(super) fn wrong(&self, key: &str, value: &Value, problem: impl Into<String>) {
        self.error(key, origin_within(value).or(self.file.as_deref()), problem);
    }

    pub(super) fn error(&self, key: &str, origin: Option<&str>, problem: impl Into<String>) {
        self.errors.borrow_mut().push(KeyError {
            key: key.to_owned(),
            origin: origin.map(str::to_owned),
            problem: problem.into(),
        });
    }

    pub(super) fn has_error(&self, key: &str) -> bool {
        self.errors.borrow().iter().any(|e| e.key == key)
    }

    /// An error in a key or in anything below it.
    pub(super) fn has_error_below(&self, key: &str) -> bool {
        let below = |other: &str| {
            other.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.errors.borrow().iter().any(|e| below(&e.key))
    }

    /// Every key that was asked for; those of a list have `[]` in place of the position.
    #[cfg(test)]
    pub(super) fn accepted(&self) -> Vec<String> {
        self.accepted.borrow().clone()
    }

    /// `value`, which stands for nothing if anything was wrong.
    pub(super) fn into_result<T>(self, value: T) -> Result<T, ConfigErrors> {
        let errors = self.errors.into_inner();
        if errors.is_empty() { Ok(value) } else { Err(ConfigErrors { errors }) }
    }
}

/// One table of the tree; keys are taken out of it, and what is left at the end is unknown.
#[derive(Debug)]
pub(super) struct Section<'r> {
    report: &'r Report,
    /// Empty for the root, else such as `listen.tls` or `tables[0]`.
    path: String,
    /// As `path`, with `[]` in place of positions.
    pattern: String,
    entries: Map<String, Value>,
    known: Vec<&'static str>,
}

impl<'r> Section<'r> {
    pub(super) fn root(report: &'r Report, entries: Map<String, Value>) -> Section<'r> {
        Section { report, path: String::new(), pattern: String::new(), entries, known: Vec::new() }
    }

    /// A table below this one; an empty one where it is not written.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'r> {
        self.optional_section(key).unwrap_or_else(|| self.child(key, Map::new()))
    }

    pub(super) fn optional_section(&mut self, key: &'static str) -> Option<Section<'r>> {
        self.known.push(key);
        let value = self.entries.remove(key)?;
        if let ValueKind::Table(entries) = value.kind {
            return Some(self.child(key, entries));
        }
        let path = self.key(key);
        let problem = format!("is {}, but is a table: write [{path}]", kind_name(&value));
        self.report.wrong(&path, &value, problem);
        None
    }

    /// The tables of `[[key]]`, or the text that a flag or variable gave in their place.
    pub(super) fn list(&mut self, key: &'static str) -> Option<ListOrText<'r>> {
        self.known.push(key);
        let value = self.entries.remove(key)?;
        let path = self.key(key);
        let items = match value.kind {
            ValueKind::Array(items) => items,
            ValueKind::String(text) => return Some(ListOrText::Text(text)),
            _ => {
                let problem = format!("is {}, but is a list: write [[{path}]]", kind_name(&value));
                self.report.wrong(&path, &value, problem);
                return None;
            }
        };
        let mut sections = Vec::new();
        for (position, item) in items.into_iter().enumerate() {
            let path = format!("{path}[{position}]");
            if let ValueKind::Table(entries) = item.kind {
                let pattern = format!("{}[]", join(&self.pattern, key));
                sections.push(Section { report: self.report, path, pattern, entries, known: Vec::new() });
            } else {
                let problem = format!("is {}, but is a table with a key `match`", kind_name(&item));
                self.report.wrong(&path, &item, problem);
            }
        }
        Some(ListOrText::List(sections))
    }

    /// Takes a key. `None` where it is not written, and where it is wrong, which is then recorded.
    pub(super) fn take<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        self.known.push(key);
        self.report.accepted.borrow_mut().push(join(&self.pattern, key));
        let value = self.entries.remove(key)?;
        parse(&value).map_err(|problem| self.report.wrong(&self.key(key), &value, problem)).ok()
    }

    /// Takes a key that must be written.
    pub(super) fn require<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&Value) -> Result<T, String>,
        problem: &str,
    ) -> Option<T> {
        if !self.entries.contains_key(key) {
            self.report.error(&self.key(key), self.report.file.as_deref(), problem);
        }
        self.take(key, parse)
    }

    /// Refuses a key that a later version will have, so that nobody believes it in force.
    pub(super) fn later(&mut self, key: &str, instead: &str) {
        if let Some(value) = self.entries.remove(key) {
            let problem = format!("is not available in this version: {instead}");
            self.report.wrong(&self.key(key), &value, problem);
        }
    }

    /// All remaining entries, for tables whose keys the user chooses.
    pub(super) fn take_rest(&mut self) -> Vec<(String, Value)> {
        self.report.accepted.borrow_mut().push(join(&self.pattern, "*"));
        let mut rest: Vec<_> = self.entries.drain().collect();
        rest.sort_by(|a, b| a.0.cmp(&b.0));
        rest
    }

    pub(super) fn key(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Whatever was not taken is unknown.
    pub(super) fn finish(self) {
        let mut rest: Vec<_> = self.entries.iter().collect();
        rest.sort_by_key(|(key, _)| key.as_str());
        for (key, value) in rest {
            let place = match self.path.as_str() {
                "" => "the configuration has".to_owned(),
                path => format!("[{path}] has"),
            };
            let problem = format!("is not a key of Millpond: {place} {}", self.known.join(", "));
            self.report.wrong(&self.key(key), value, problem);
        }
    }

    fn child(&self, key: &'static str, entries: Map<String, Value>) -> Section<'r> {
        Section {
            report: self.report,
            path: join(&self.path, key),
            pattern: join(&self.pattern, key),
            entries,
            known: Vec::new(),
        }
    }
}

#[derive(Debug)]
pub(super) enum ListOrText<'r> {
    List(Vec<Section<'r>>),
    Text(String),
}

/// What a wrong value is, for messages; its content may be a secret and is not shown here.
pub(super) fn kind_name(value: &Value) -> &'static str {
    match value.kind {
        ValueKind::Nil => "empty",
        ValueKind::Boolean(_) => "true or false",
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => "a whole number",
        ValueKind::Float(_) => "a number with a fraction",
        ValueKind::String(_) => "a text",
        ValueKind::Table(_) => "a table",
        ValueKind::Array(_) => "a list",
    }
}

/// The merge of the layers keeps the origin of leaves only.
fn origin_within(value: &Value) -> Option<&str> {
    match &value.kind {
        ValueKind::Table(entries) => value.origin().or_else(|| entries.values().find_map(origin_within)),
        ValueKind::Array(items) => value.origin().or_else(|| items.iter().find_map(origin_within)),
        _ => value.origin(),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
