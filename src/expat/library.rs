//! Whether the linked Expat library can be used.
//!
//! Owns the oldest version accepted and the check that a tag is reported in time.

use nix::libc::c_int;

use super::ffi;
use super::parser::{Parser, Token};

/// Oldest Expat accepted: 2.4.0 is the first with limits on entity expansion.
const OLDEST: (c_int, c_int) = (2, 4);

/// Whether the linked Expat can be used: new enough, and reporting a tag in
/// the very call that completes it.
///
/// # Errors
/// A sentence for the operator.
pub fn check_library() -> Result<(), String> {
    // SAFETY: no precondition.
    let version = unsafe { ffi::XML_ExpatVersionInfo() };
    let ffi::Version {
        major,
        minor,
        micro,
    } = version;
    if (major, minor) < OLDEST {
        return Err(format!(
            "the Expat library is version {major}.{minor}.{micro}; 2.4.0 is the oldest that is safe to use"
        ));
    }
    let mut parser = Parser::new(1);
    let mut tag = b"<r><a b='".to_vec();
    tag.resize(400, b'x');
    let on_time = parser.feed(&tag).is_ok()
        && parser.feed(b"'/>").is_ok()
        && matches!(parser.tokens().last(), Some(Token::End { depth: 1, .. }));
    if !on_time {
        return Err(format!(
            "the Expat library (version {major}.{minor}.{micro}) holds complete elements back (reparse deferral) and cannot be told not to"
        ));
    }
    Ok(())
}
