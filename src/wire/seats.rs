//! Clients that have logged in: how many there may be, in all and of one role.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use super::error::Problem;

#[derive(Debug)]
pub(super) struct Seats {
    max: usize,
    max_per_role: Option<usize>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    per_role: HashMap<String, usize>,
}

/// One client's; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    role: String,
}

impl Seats {
    pub(super) fn new(max: usize, max_per_role: Option<usize>) -> Arc<Seats> {
        Arc::new(Seats { max, max_per_role, taken: Mutex::default() })
    }

    /// Whether a login could only be refused.
    pub(super) fn are_taken(&self) -> bool {
        self.taken.lock().all >= self.max
    }

    pub(super) fn take(self: &Arc<Seats>, role: &str) -> Result<Seat, Problem> {
        let mut taken = self.taken.lock();
        if taken.all >= self.max {
            return Err(Problem::TooManyClients);
        }
        let of_role = taken.per_role.get(role).copied().unwrap_or_default();
        if self.max_per_role.is_some_and(|max| of_role >= max) {
            return Err(Problem::TooManyOfRole { role: role.to_owned() });
        }
        taken.all += 1;
        taken.per_role.insert(role.to_owned(), of_role + 1);
        Ok(Seat { seats: Arc::clone(self), role: role.to_owned() })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock();
        taken.all -= 1;
        if let Some(count) = taken.per_role.get_mut(&self.role) {
            *count -= 1;
            if *count == 0 {
                taken.per_role.remove(&self.role);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_in_all_and_for_each_role() {
        let seats = Seats::new(3, Some(2));
        let (first, second) = (seats.take("a").unwrap(), seats.take("a").unwrap());
        assert_eq!(seats.take("a").unwrap_err(), Problem::TooManyOfRole { role: "a".into() });
        let third = seats.take("b").unwrap();
        assert!(seats.are_taken());
        assert_eq!(seats.take("b").unwrap_err(), Problem::TooManyClients);
        drop((first, second));
        let again = seats.take("a").unwrap();
        drop((third, again));
        let taken = seats.taken.lock();
        assert_eq!((taken.all, taken.per_role.len()), (0, 0));
    }
}
