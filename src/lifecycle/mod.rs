//! Shutdown and readiness.
