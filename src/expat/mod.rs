//! Expat, the XML parser of the original, behind a safe face.
//!
//! Owns the only `unsafe` code beside the daemon's forking: declarations
//! (`ffi`), one parser (`parser`), what it refuses (`rules`), the texts and the
//! elements it need not see (`text`, `plain`), what the linked library can do
//! (`library`) and the free list of parsers that wait at depth 1 (`pool`). Knows XML, not XMPP: it
//! reports tags near the root with their byte positions and refuses what RFC
//! 6120, section 11.1 forbids.

#[allow(unsafe_code)]
mod ffi;
#[allow(unsafe_code)]
mod library;
#[allow(unsafe_code)]
mod parser;
mod plain;
mod pool;
mod rules;
mod text;

pub use library::check_library;
pub use parser::{Names, Parser, Tag, Token};
pub use plain::{Plain, plain_element};
pub use pool::Pool;
pub use rules::{Error, Limits};
pub use text::safe_cut;
