//! PostgreSQL values, text and binary, both ways; total on any bytes.
