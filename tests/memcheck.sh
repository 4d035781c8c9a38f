#!/bin/bash
# Runs the tests under AddressSanitizer: jabsocket's code with every call into Expat,
# OpenSSL and c-ares, and the daemon in the tests that run it. Also finds leaks in programs
# that exit by themselves. Does not check how much memory the daemon uses.
#
#   tests/memcheck.sh [CARGO TEST ARGUMENTS...]   without arguments: all tests
#
# Not part of tests/run.sh, because it builds everything again and takes minutes. The
# last line is "memcheck: clean" or "memcheck: not clean".

set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
[ -d "${HOME-}/.cargo/bin" ] && PATH=$PATH:$HOME/.cargo/bin
triple=$(rustc -vV | sed -n 's/^host: //p')
if ! compgen -G "$(rustc --print target-libdir)/librustc*_rt.asan.a" >/dev/null; then
    echo "memcheck: not clean: this Rust ($(command -v rustc)) has no AddressSanitizer; install Rust from https://rustup.rs"
    exit 1
fi
reports=$PWD/target/memcheck
rm -rf "$reports"
mkdir -p "$reports"

export MEMCHECK=1 RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address
export ASAN_OPTIONS=log_path=$reports/report:detect_stack_use_after_return=1
[ $# -gt 0 ] || set -- --no-fail-fast
cargo test --target "$triple" "$@" 2>&1 | tee "$reports/log"
status=${PIPESTATUS[0]}

# A report from a daemon does not fail its test.
found=$(find "$reports" -name 'report.*' | wc -l)
[ "$found" -eq 0 ] || head -n 40 "$reports"/report.*
if [ "$status" -eq 0 ] && [ "$found" -eq 0 ]; then
    echo 'memcheck: clean'
else
    echo "memcheck: not clean (status $status, $found reports in target/memcheck)"
    exit 1
fi
