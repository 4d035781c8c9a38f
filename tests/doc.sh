#!/bin/bash
# Builds the documentation of the source, private items too. A link that leads nowhere
# is a failure.

set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."
RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' \
    cargo doc --no-deps --document-private-items
