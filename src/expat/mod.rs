//! A safe interface to Expat, the XML parser that the C daemon used.
//!
//! `ffi` declares the functions of the library, `parser` wraps one parser, `memory` counts the
//! memory of all of them, and `limits` has the limits on a document. `boundary` finds the end
//! of a unit, `unit_check` feeds a unit in slices, and `fast_path` accepts elements and root
//! tags that do not need Expat. `library` checks the linked library, and `pool` keeps idle
//! parsers. This room knows XML but not XMPP: it reports tags near the root with their byte
//! positions, and refuses what RFC 6120, section 11.1 forbids.

mod boundary;
mod fast_path;
#[allow(unsafe_code)]
mod ffi;
#[allow(unsafe_code)]
mod library;
mod limits;
#[allow(unsafe_code)]
mod memory;
#[allow(unsafe_code)]
mod parser;
mod pool;
mod unit_check;

pub use boundary::{Boundary, MAX_TAG};
pub use fast_path::{Plain, PlainRoot, plain_element, plain_root};
pub use library::check_library;
pub use limits::{Error, Limits};
pub use memory::heap_bytes;
pub use parser::{Parser, Tag, Token, parsers_made, scanned_bytes};
pub use pool::Pool;
pub use unit_check::UnitCheck;
