//! The benchmark's clock.

use std::time::Instant;

/// Now.
#[expect(clippy::disallowed_methods, reason = "measuring time is its purpose")]
pub fn now() -> Instant {
    Instant::now()
}
