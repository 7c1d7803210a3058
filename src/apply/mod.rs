//! Changes into the store, in commit order.
