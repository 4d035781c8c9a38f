//! Expat, the XML parser of the original, behind a safe interface.
//!
//! Owns the declarations of its functions (`ffi`), one parser (`parser`), its memory
//! (`memory`) and the limits of documents (`limits`); where a unit for it ends
//! (`boundary`), the feeding of a unit in slices (`judgement`), elements that need no
//! call of it (`fast_path`), the check of the linked library (`library`) and the free
//! list of parsers at depth 1 (`pool`). It knows XML, not XMPP: it reports tags near the
//! root with their byte positions and refuses what RFC 6120, section 11.1 forbids.

mod boundary;
mod fast_path;
#[allow(unsafe_code)]
mod ffi;
mod judgement;
#[allow(unsafe_code)]
mod library;
mod limits;
#[allow(unsafe_code)]
mod memory;
#[allow(unsafe_code)]
mod parser;
mod pool;

pub use boundary::{Boundary, MAX_TAG};
pub use fast_path::{Plain, plain_element};
pub use judgement::Judgement;
pub use library::check_library;
pub use limits::{Error, Limits};
pub use memory::heap_bytes;
pub use parser::{Parser, Tag, Token, parsers_made, scanned_bytes};
pub use pool::Pool;
