#!/bin/bash
# The checks to run after each change to the source, in less than two minutes: format,
# lints, documentation, the rules of the house, and the tests that need no daemon. It
# stops at the first failure. tests/run.sh runs everything.

set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ -d "${HOME-}/.cargo/bin" ] && PATH=$PATH:$HOME/.cargo/bin

cargo fmt --check
cargo clippy --all-targets -- -D warnings
bash tests/doc.sh
cargo test --lib --test house --test sans_io
