//! The jabsocket daemon.
fn main() {}
