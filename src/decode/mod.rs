//! Replication and COPY bytes to changes; no IO.
