//! The tests that need a PostgreSQL: one program, so that they share its servers.

mod demo;
mod mirror;

mod serving;
mod startup;
mod support;
mod wire;
