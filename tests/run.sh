#!/bin/bash
# Every check there is: format, lints, documentation, build, cargo's tests, half a minute of
# fuzzing for each parser, the demo, real clients against real servers, real proxies, a
# real browser, and the Debian package. It installs what is missing first. A failing
# step does not stop the others. The end of the output has how long each step took, what
# each failed step said, and as the last line "N passed, M failed".

set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
[ -d "${HOME-}/.cargo/bin" ] && PATH=$PATH:$HOME/.cargo/bin
exec </dev/null

passed=0
failed=0
work=$(mktemp -d) || exit 1
log=$work/log
: >"$work/times"
failures=()
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Runs a command, keeps its output in $log, gives its status.
run() {
    local status began=$SECONDS
    printf '\n== %s\n' "$*"
    "$@" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    printf '%5d s  %s\n' $((SECONDS - began)) "$*" >>"$work/times"
    return "$status"
}

# The lines of $log that say why a command failed: the names of failed tests, and
# the first lines of each message. The last lines if there are none of these.
why() {
    sed 's/\x1b[[(][0-9;]*[A-Za-z]//g' "$log" | awk '
        /^(failures:$|stack backtrace:|ok |test .* ok$|test result: )/ { left = 0 }
        /^(test .* FAILED$|error: test failed)/ { left = 1; print_it() ; next }
        /^(FAIL |not ok |error|Diff in )|panicked at |ERROR: |SUMMARY: |^\*\* / { left = 12 }
        left > 0 { print_it() }
        function print_it() { left--; print substr($0, 1, 300); found = 1 }
        END { exit !found }
    ' || tail -n 12 "$log"
}

# Keeps for the end what a failed command said. $1: its status.
fail() {
    local status=$1 file=$work/failure${#failures[@]}
    shift
    printf '** failed: %s (status %s)\n' "$*" "$status" | tee "$file"
    why | sed 's/^/    /' >>"$file"
    failures+=("$file")
}

# A command that is one test.
step() {
    local status
    run "$@"
    status=$?
    if [ $status -eq 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        fail $status "$@"
    fi
}

# A command that counts by itself: $1 and $2 are sed expressions that print its
# passed and its failed tests. No count, or a bad status without a failed test,
# is a failure too.
counted() {
    local pass_pattern=$1 fail_pattern=$2 status pass fail
    shift 2
    run "$@"
    status=$?
    pass=$(sed -nE "$pass_pattern" "$log" | awk '{ n += $1 } END { print n + 0 }')
    fail=$(sed -nE "$fail_pattern" "$log" | awk '{ n += $1 } END { print n + 0 }')
    if [ "$fail" -eq 0 ] && { [ $status -ne 0 ] || [ "$pass" -eq 0 ]; }; then fail=1; fi
    [ "$fail" -eq 0 ] || fail $status "$@"
    passed=$((passed + pass))
    failed=$((failed + fail))
}

# Cargo's tests.
cargo_tests() {
    local line='^test result: [A-Za-z]+\. ([0-9]+) passed; ([0-9]+) failed;.*'
    counted "s/$line/\\1/p" "s/$line/\\2/p" "$@"
}

# A script whose last line is "NAME: N ok, M not". $1: the name.
script() {
    local line="^$1: ([0-9]+) ok, ([0-9]+) not\$"
    shift
    counted "s/$line/\\1/p" "s/$line/\\2/p" "$@"
}

run bash tests/install.sh all || { status=$?; failed=$((failed + 1)); fail $status bash tests/install.sh all; }

step cargo fmt --check
step cargo clippy --all-targets -- -D warnings
step bash tests/doc.sh
step mandoc -T lint man/jabsocket.8 man/jabsocket.conf.5
step cargo fmt --manifest-path tests/fuzz/Cargo.toml --check
step cargo clippy --manifest-path tests/fuzz/Cargo.toml -- -D warnings
step cargo build --release
cargo_tests cargo test --no-fail-fast
# Without the fast path around Expat.
cargo_tests env JABSOCKET_ALL_TO_EXPAT=1 cargo test --no-fail-fast --lib --test sans_io --test daemon
script fuzz bash tests/fuzz/smoke.sh 30
step bash tests/fail2ban.sh
step bash tests/metrics.sh
step bash tests/demo.sh --once
script 'real parts' node tests/real/main.mjs
script upgrade node tests/real/upgrade.mjs
script failover node tests/real/failover.mjs
script drain node tests/real/drain.mjs
script proxies node tests/real/proxies.mjs
script browser node tests/real/browser.mjs
script package bash tests/package.sh

printf '\n== How long each took\n'
cat "$work/times"
if [ $failed -gt 0 ]; then
    printf '\n== What failed\n'
    head -q -n $((100 / ${#failures[@]})) "${failures[@]}"
fi
printf '\n%d passed, %d failed\n' $passed $failed
[ $failed -eq 0 ] && [ $passed -gt 0 ]
