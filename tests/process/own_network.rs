//! A network namespace of its own for a test.

use std::process::Command;
use std::thread;

/// Runs a test in a new network namespace, or leaves it out if that is not permitted. It has a
/// thread of its own, because the test runner may use one thread for all tests, and the others
/// need their network.
pub fn in_own_network(test: fn()) {
    let outcome = thread::spawn(move || match leave_the_network() {
        true => test(),
        false => println!("left out: a network of its own takes root's rights"),
    });
    if let Err(panic) = outcome.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Moves this thread, and what it starts, to a new network namespace; false if that is not
/// permitted.
pub fn leave_the_network() -> bool {
    // SAFETY: the call takes a number and changes only this thread.
    let left = unsafe { nix::libc::unshare(nix::libc::CLONE_NEWNET) } == 0;
    if left {
        ip("link set lo up");
    }
    left
}

pub fn ip(words: &str) {
    let done = Command::new("ip").args(words.split(' ')).status();
    assert!(done.expect("ip runs").success(), "ip {words}");
}
