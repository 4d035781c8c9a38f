#!/bin/bash
# Shows jabsocket at work: builds it, starts it before an XMPP server of its own
# on loopback, lets two users chat through it and then gives you a page to chat
# with. Ctrl-C ends everything; nothing is left behind.
#
#   tests/demo.sh           until Ctrl-C
#   tests/demo.sh --once    ends after the users' chat: status 0 or 1

set -u
tests=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1
cd "$tests/.." || exit 1

case "${1-}" in
    '' | --once) ;;
    *) echo "usage: $0 [--once]" >&2; exit 2 ;;
esac

[ -d "${HOME-}/.cargo/bin" ] && PATH=$PATH:$HOME/.cargo/bin

demo=
directory=$(mktemp -d) || exit 1
end() {
    trap '' INT TERM HUP
    # It ends Prosody and jabsocket.
    [ -n "$demo" ] && kill -TERM "$demo" 2>/dev/null && wait "$demo"
    rm -rf "$directory"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

echo '1. What is needed is installed, unless it is there.'
bash tests/install.sh demo || exit 1

echo '2. cargo build --release'
cargo build --release </dev/null || exit 1

TMPDIR=$directory DEMO_STEP=3 node tests/demo/demo.mjs "$@" </dev/null &
demo=$!
wait "$demo"
status=$?
demo=
exit $status
