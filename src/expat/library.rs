//! The Expat library that is linked: whether it will do.
//!
//! Owns the oldest version accepted and the function that not all versions
//! have: without it a newer library reports a tag late.

use std::sync::OnceLock;

use nix::libc::{self, c_int, c_void};

use super::ffi;
use super::parser::{Parser, Token};

/// Oldest Expat accepted: 2.4.0 is the first with limits on entity expansion.
const OLDEST: (c_int, c_int) = (2, 4);

/// `XML_SetReparseDeferralEnabled` where the library has it. Distributions
/// carried it back into older versions, so no version number tells.
pub(super) fn reparse_deferral() -> Option<ffi::SetReparseDeferral> {
    static FOUND: OnceLock<Option<ffi::SetReparseDeferral>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let name = c"XML_SetReparseDeferralEnabled";
        // SAFETY: the name is NUL-terminated; RTLD_DEFAULT needs no handle.
        let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        if address.is_null() {
            return None;
        }
        // SAFETY: the symbol is the library's function of this type.
        Some(unsafe { std::mem::transmute::<*mut c_void, ffi::SetReparseDeferral>(address) })
    })
}

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
