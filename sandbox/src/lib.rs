//! Servers and campus.
