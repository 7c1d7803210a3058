//! Every task and thread of the program, by name, and what its end means for the rest.

use std::fmt;

/// What runs beside the others. Its name is the thread's, the one that shutdown waits for, and the one
/// in logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Task {
    /// Waits for SIGTERM and SIGINT.
    Signals,
    /// Answers on `admin.listen`.
    Admin,
    /// Copies tables and follows the stream.
    Source,
    /// Puts changes into the store.
    Apply,
    /// Compares the primary's catalogue with ours.
    Catalog,
    /// Accepts clients and deals them to the serving threads.
    Accept,
    /// A serving thread with its sessions.
    Serve,
}

/// What to do when a task fails or ends while nobody has asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Without it no answer could be vouched for, or given: the program ends with an error.
    ShutDown,
    /// Its loss is logged; answers stay right without it.
    Log,
}

impl Task {
    pub const ALL: [Task; 7] =
        [Task::Signals, Task::Admin, Task::Source, Task::Apply, Task::Catalog, Task::Accept, Task::Serve];

    /// At most 15 bytes: Linux cuts off the rest of a thread's name.
    pub fn name(self) -> &'static str {
        match self {
            Task::Signals => "signals",
            Task::Admin => "admin",
            Task::Source => "source",
            Task::Apply => "apply",
            Task::Catalog => "catalog",
            Task::Accept => "accept",
            Task::Serve => "serve",
        }
    }

    pub fn on_failure(self) -> OnFailure {
        match self {
            Task::Source | Task::Apply | Task::Catalog | Task::Accept | Task::Serve => OnFailure::ShutDown,
            Task::Signals | Task::Admin => OnFailure::Log,
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_differ_and_fit_a_thread() {
        let names: HashSet<_> = Task::ALL.iter().map(|task| task.name()).collect();
        assert_eq!(names.len(), Task::ALL.len());
        assert!(names.iter().all(|name| name.len() <= 15));
    }
}
