//! The PostgreSQL port.
