//! What several integration tests share.
#![allow(dead_code)]

pub mod chop;
pub mod ws_client;
