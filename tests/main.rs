//! The tests that need a PostgreSQL: one program, so that they share its servers.

mod codec_roundtrip;
mod demo;
mod mirror;
mod primary;
mod schema;
mod serving;
mod source;
mod startup;
mod support;
mod wire;
