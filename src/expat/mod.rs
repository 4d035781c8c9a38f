//! Expat, the XML parser of the original, behind a safe face.
//!
//! Owns nearly all `unsafe` code (tests/house.rs lists the rest): declarations
//! (`ffi`), one parser (`parser`), the memory it takes (`memory`), what it refuses
//! (`rules`), where a unit for it ends (`boundary`), the way of a unit through it
//! (`judgement`), the texts and the elements that it need not see (`text`, `plain`),
//! what the linked library can do (`library`) and the free list of parsers that wait
//! at depth 1 (`pool`). Knows XML, not XMPP: it reports tags near the root with their
//! byte positions and refuses what RFC 6120, section 11.1 forbids.

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
mod text;

pub use boundary::{Boundary, MAX_TAG};
pub use fast_path::{Plain, plain_element};
pub use judgement::Judgement;
pub use library::check_library;
pub use limits::{Error, Limits};
pub use memory::heap_bytes;
pub use parser::{Parser, Tag, Token, parsers_made, scanned_bytes};
pub use pool::Pool;
