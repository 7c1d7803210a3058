//! The versioned in-memory tables.
