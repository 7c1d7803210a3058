//! Where changes come from.

pub mod preflight;
pub mod publication;
pub mod schema;
