//! Connections to the primary.
