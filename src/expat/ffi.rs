//! The Expat functions that the parser calls, declared by hand.
//!
//! `XML_SetReparseDeferralEnabled` is looked up at run time, because only some versions of the
//! library have it; those versions report a tag late unless it is called. `expat-sys` only
//! links the library and declares nothing. Types follow `expat.h` as distributions build it:
//! `XML_Char` is `char` holding UTF-8, `XML_Bool` an `unsigned char`, `XML_Index` a `long`.

use std::sync::OnceLock;

use expat_sys as _;
use nix::libc::{self, c_char, c_int, c_long, c_uchar, c_ulong, c_void};

/// Expat's parser object, which is opaque.
#[repr(C)]
pub struct ParserStruct {
    opaque: [u8; 0],
}

/// `XML_Parser`.
pub type RawParser = *mut ParserStruct;

/// `XML_STATUS_ERROR`; any other status of `XML_Parse` is success here, since
/// nothing suspends a parser.
pub const STATUS_ERROR: c_int = 0;
/// `XML_ERROR_UNDEFINED_ENTITY`.
pub const ERROR_UNDEFINED_ENTITY: c_int = 11;

/// `XML_StartElementHandler`; the attributes are name, value, ..., NULL.
pub type StartElement =
    unsafe extern "C" fn(data: *mut c_void, name: *const c_char, atts: *mut *const c_char);
/// `XML_EndElementHandler`.
pub type EndElement = unsafe extern "C" fn(data: *mut c_void, name: *const c_char);
/// `XML_StartNamespaceDeclHandler`.
pub type StartNamespace =
    unsafe extern "C" fn(data: *mut c_void, prefix: *const c_char, uri: *const c_char);
/// `XML_StartDoctypeDeclHandler`.
pub type StartDoctype = unsafe extern "C" fn(
    data: *mut c_void,
    name: *const c_char,
    sysid: *const c_char,
    pubid: *const c_char,
    has_internal_subset: c_int,
);
/// `XML_CommentHandler`.
pub type Comment = unsafe extern "C" fn(data: *mut c_void, text: *const c_char);
/// `XML_ProcessingInstructionHandler`.
pub type ProcessingInstruction =
    unsafe extern "C" fn(data: *mut c_void, target: *const c_char, text: *const c_char);
/// `XML_XmlDeclHandler`.
pub type XmlDecl = unsafe extern "C" fn(
    data: *mut c_void,
    version: *const c_char,
    encoding: *const c_char,
    standalone: c_int,
);
/// `XML_SetReparseDeferralEnabled`, which older libraries lack.
pub type SetReparseDeferral = unsafe extern "C" fn(parser: RawParser, enabled: c_uchar) -> c_uchar;

/// `XML_Expat_Version`.
#[repr(C)]
pub struct Version {
    pub major: c_int,
    pub minor: c_int,
    pub micro: c_int,
}

/// `XML_Memory_Handling_Suite`.
#[repr(C)]
pub struct MemoryHandlingSuite {
    pub malloc: unsafe extern "C" fn(len: usize) -> *mut c_void,
    pub realloc: unsafe extern "C" fn(block: *mut c_void, len: usize) -> *mut c_void,
    pub free: unsafe extern "C" fn(block: *mut c_void),
}

unsafe extern "C" {
    pub fn XML_ParserCreate_MM(
        encoding: *const c_char,
        suite: *const MemoryHandlingSuite,
        separator: *const c_char,
    ) -> RawParser;
    pub fn XML_ParserFree(parser: RawParser);
    pub fn XML_SetHashSalt(parser: RawParser, salt: c_ulong) -> c_int;
    pub fn XML_SetUserData(parser: RawParser, data: *mut c_void);
    pub fn XML_SetElementHandler(parser: RawParser, start: StartElement, end: EndElement);
    pub fn XML_SetStartNamespaceDeclHandler(parser: RawParser, handler: StartNamespace);
    pub fn XML_SetStartDoctypeDeclHandler(parser: RawParser, handler: StartDoctype);
    pub fn XML_SetCommentHandler(parser: RawParser, handler: Comment);
    pub fn XML_SetProcessingInstructionHandler(parser: RawParser, handler: ProcessingInstruction);
    pub fn XML_SetXmlDeclHandler(parser: RawParser, handler: XmlDecl);
    pub fn XML_Parse(parser: RawParser, bytes: *const c_char, len: c_int, is_final: c_int)
    -> c_int;
    pub fn XML_StopParser(parser: RawParser, resumable: c_uchar) -> c_int;
    pub fn XML_GetErrorCode(parser: RawParser) -> c_int;
    pub fn XML_ErrorString(code: c_int) -> *const c_char;
    pub fn XML_GetCurrentByteIndex(parser: RawParser) -> c_long;
    pub fn XML_GetCurrentByteCount(parser: RawParser) -> c_int;
    pub fn XML_ExpatVersionInfo() -> Version;
}

/// Returns `XML_SetReparseDeferralEnabled` if the library has it. Distributions backported it
/// to older versions, so the version number does not show this.
pub(super) fn reparse_deferral() -> Option<SetReparseDeferral> {
    static FOUND: OnceLock<Option<SetReparseDeferral>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let name = c"XML_SetReparseDeferralEnabled";
        // SAFETY: the name is NUL-terminated; RTLD_DEFAULT needs no handle.
        let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        if address.is_null() {
            return None;
        }
        // SAFETY: the symbol is the library's function of this type.
        Some(unsafe { std::mem::transmute::<*mut c_void, SetReparseDeferral>(address) })
    })
}
