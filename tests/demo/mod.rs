//! The throw-away server, the shop and its writer.

mod server;
mod session;
mod shop;
