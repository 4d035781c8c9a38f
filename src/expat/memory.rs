//! Counts the memory that the parsers hold.
//!
//! Provides the allocation functions that Expat uses. Each thread has its own count, because a
//! parser never leaves its thread.

use std::cell::Cell;

use nix::libc::{self, c_void};

use super::ffi::MemoryHandlingSuite;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// Returns the bytes that Expat holds for all parsers of this thread.
pub fn heap_bytes() -> usize {
    HELD.get()
}

/// The allocation functions, for Expat.
pub(super) static COUNTED: MemoryHandlingSuite = MemoryHandlingSuite {
    malloc,
    realloc,
    free,
};

fn count(old: usize, new: usize) {
    HELD.set(HELD.get() - old + new);
}

/// # Safety
/// `block` is NULL or a live block of `malloc`.
unsafe fn size(block: *mut c_void) -> usize {
    // SAFETY: the caller guarantees it.
    unsafe { libc::malloc_usable_size(block) }
}

unsafe extern "C" fn malloc(len: usize) -> *mut c_void {
    // SAFETY: `malloc` has no precondition, and its block is live.
    unsafe {
        let block = libc::malloc(len);
        count(0, size(block));
        block
    }
}

unsafe extern "C" fn realloc(block: *mut c_void, len: usize) -> *mut c_void {
    // SAFETY: Expat gives NULL or a block that it has from here.
    unsafe {
        let old = size(block);
        let new = libc::realloc(block, len);
        // If there is no memory, the old block remains valid.
        if !new.is_null() {
            count(old, size(new));
        }
        new
    }
}

unsafe extern "C" fn free(block: *mut c_void) {
    // SAFETY: Expat gives NULL or a block that it has from here.
    unsafe {
        count(size(block), 0);
        libc::free(block);
    }
}
