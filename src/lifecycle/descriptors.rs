//! How many files and sockets the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is taken for the limit where the system knows none.
const UNLIMITED: u64 = 1 << 20;

/// Raises the limit to the most that the system permits and gives it: many systems start programs with
/// 1,024, which is for those that use `select`.
pub fn raise_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || (limit.current.is_some() && limit.maximum.is_none()) {
        // The limit of before is left where this one is refused.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_most_that_is_permitted() {
        let limit = raise_limit();
        let now = getrlimit(Resource::Nofile);
        assert!(limit > 0 && now.maximum.is_none_or(|most| now.current == Some(most)));
    }
}
