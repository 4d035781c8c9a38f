#!/bin/bash
# Every check there is: format, lints, build, cargo's tests, a minute of fuzzing
# for each parser, the demo, real clients against real servers, real proxies, a real
# browser, and the Debian package. It installs what is missing first. A failing step
# does not stop the others; the last line is "N passed, M failed".

set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
[ -d "${HOME-}/.cargo/bin" ] && PATH=$PATH:$HOME/.cargo/bin
exec </dev/null

passed=0
failed=0
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Runs a command, keeps its output in $log, gives its status.
run() {
    printf '\n== %s\n' "$*"
    "$@" 2>&1 | tee "$log"
    return "${PIPESTATUS[0]}"
}

# A command that is one test.
step() {
    if run "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf '** failed: %s\n' "$*"
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
    [ "$fail" -eq 0 ] || printf '** failed: %s (status %s)\n' "$*" $status
    passed=$((passed + pass))
    failed=$((failed + fail))
}

run bash tests/install.sh all || { failed=$((failed + 1)); echo '** failed: tests/install.sh all'; }

step cargo fmt --check
step cargo clippy --all-targets -- -D warnings
step cargo fmt --manifest-path tests/fuzz/Cargo.toml --check
step cargo clippy --manifest-path tests/fuzz/Cargo.toml -- -D warnings
step cargo build --release
counted 's/^test result: [A-Za-z]+\. ([0-9]+) passed; ([0-9]+) failed;.*/\1/p' \
        's/^test result: [A-Za-z]+\. ([0-9]+) passed; ([0-9]+) failed;.*/\2/p' \
        cargo test --no-fail-fast
counted 's/^fuzz: ([0-9]+) ok, ([0-9]+) not$/\1/p' \
        's/^fuzz: ([0-9]+) ok, ([0-9]+) not$/\2/p' \
        bash tests/fuzz/smoke.sh
step bash tests/fail2ban.sh
step bash tests/metrics.sh
step bash tests/demo.sh --once
counted 's/^real parts: ([0-9]+) ok, ([0-9]+) not$/\1/p' \
        's/^real parts: ([0-9]+) ok, ([0-9]+) not$/\2/p' \
        node tests/real/main.mjs
counted 's/^proxies: ([0-9]+) ok, ([0-9]+) not$/\1/p' \
        's/^proxies: ([0-9]+) ok, ([0-9]+) not$/\2/p' \
        node tests/real/proxies.mjs
counted 's/^browser: ([0-9]+) ok, ([0-9]+) not$/\1/p' \
        's/^browser: ([0-9]+) ok, ([0-9]+) not$/\2/p' \
        node tests/real/browser.mjs
counted 's/^package: ([0-9]+) ok, ([0-9]+) not$/\1/p' \
        's/^package: ([0-9]+) ok, ([0-9]+) not$/\2/p' \
        bash tests/package.sh

printf '\n%d passed, %d failed\n' $passed $failed
[ $failed -eq 0 ] && [ $passed -gt 0 ]
