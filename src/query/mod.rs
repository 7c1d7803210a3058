//! Statements to answers.
