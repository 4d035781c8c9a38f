//! Checks that the linked Expat library is usable.
//!
//! It must be recent enough, and report a tag in the call that completes the tag.

use nix::libc::c_int;

use super::ffi;
use super::parser::{Parser, Token};

/// Oldest version accepted: 2.4.0 is the first that limits entity expansion.
const OLDEST: (c_int, c_int) = (2, 4);

/// Checks the version of the linked Expat, and that it reports a tag in the call that completes
/// the tag.
///
/// # Errors
/// The reason, as a sentence for the operator.
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
            "the Expat library is version {major}.{minor}.{micro}; 2.4.0 or later is required"
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
            "the Expat library (version {major}.{minor}.{micro}) delays complete elements (reparse deferral), and this cannot be turned off"
        ));
    }
    Ok(())
}
