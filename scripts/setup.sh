#!/usr/bin/env bash
# Makes .venv: the pinned packages, Horovod built from its source package, Delta's jars, and the project itself.
#
# Each stage leaves a stamp in .venv/stamps that names what it was made from; a stage whose stamp still fits is skipped,
# so a second call only compares hashes. While pip writes, .venv/changing exists: a set-up that fails or is interrupted
# removes .venv then, and one that was killed leaves the file behind for the next call to see.
#
#   HOROVOD=no scripts/setup.sh     leaves Horovod out; training then runs under torch.distributed
#   PYTHON=/path/to/python3.11      the Python to use
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly ROOT=$PWD VENV=$PWD/.venv LOG=$PWD/.setup.log
readonly STAMPS=$VENV/stamps CHANGING=$VENV/changing
readonly HOROVOD=${HOROVOD:-yes} HOROVOD_VERSION=0.28.1
readonly NEEDED_GIB=9

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

source scripts/system_packages.sh
source scripts/build_horovod.sh

main() {
    [[ $HOROVOD == yes || $HOROVOD == no ]] || fail "HOROVOD=$HOROVOD is neither yes nor no"
    [[ -w $ROOT ]] || fail "cannot write in $ROOT: clone the project into a folder of your own"
    compute_keys
    if is_complete; then return; fi
    wait_for_other_set_up
    trap leave_nothing_half_installed EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    : >"$LOG"
    discard_unfinished
    is_current packages || install_packages
    is_current spark || fetch_jars
    is_current horovod || install_horovod
    say "done in $SECONDS s: $VENV"
}

# --- stamps ---

compute_keys() {
    declare -gA KEYS
    # The folder is part of the key: a virtual environment does not survive being moved.
    KEYS[packages]=$(printf '%s\n' "$ROOT" | cat - constraints.txt setup.py scripts/setup.sh | sha256sum)
    KEYS[spark]=$(cat behavior_lib/spark/jars.py scripts/configure_spark.py scripts/delta_jars.txt | sha256sum)
    KEYS[horovod]=$({ printf '%s\n' "$HOROVOD"; grep -E '^torch==' constraints.txt
                      cat scripts/horovod/*.cmake scripts/build_horovod.sh; } | sha256sum)
}

is_current() { [[ -f $STAMPS/$1 && $(<"$STAMPS/$1") == "${KEYS[$1]}" ]]; }

stamp() { printf '%s\n' "${KEYS[$1]}" >"$STAMPS/$1"; }

is_complete() {
    [[ ! -e $CHANGING ]] && is_current packages && is_current spark && is_current horovod &&
        "$VENV/bin/python" -c 'pass' 2>/dev/null
}

# --- nothing half-installed ---

wait_for_other_set_up() {
    exec 9>"$ROOT/.setup.lock"
    if ! flock --nonblock 9; then
        say "another set-up is at work in this folder; waiting for it"
        flock 9
    fi
}

leave_nothing_half_installed() {
    local status=$?
    rm -rf "$VENV/tmp"
    if [[ -e $CHANGING ]]; then
        rm -rf "$VENV"
        say "removed the unfinished .venv; what happened stands in ${LOG#"$ROOT"/}"
    fi
    exit "$status"
}

discard_unfinished() {
    [[ -e $VENV ]] || return 0
    [[ -d $STAMPS || -e $CHANGING ]] || fail "$VENV was not made by this set-up: move it away, then run 'make setup' again"
    rm -rf "$VENV/tmp"
    if [[ -e $CHANGING ]] || ! "$VENV/bin/python" -c 'pass' 2>/dev/null; then
        say "removing a .venv that an interrupted set-up left"
        rm -rf "$VENV"
    fi
}

# --- stages ---

install_packages() {
    local started=$SECONDS
    if [[ ! -d $VENV ]]; then
        require_free_disk
        find_python
        mkdir -p "$VENV"
        : >"$CHANGING"
        mkdir -p "$STAMPS"
        "$PYTHON" -m venv "$VENV" >>"$LOG" 2>&1 || fail "$PYTHON cannot make a virtual environment; see .setup.log"
        say "made .venv with $("$VENV/bin/python" --version) of $PYTHON"
    fi
    require_java
    : >"$CHANGING"
    rm -f "$STAMPS"/*
    say "installing the packages that constraints.txt pins (about 6 GB on disk, 2-5 minutes the first time)"
    pip install --constraint constraints.txt --editable '.[demo,dev]' ||
        fail "pip could not install the packages: look at the end of .setup.log, check the network, run 'make setup' again"
    pip check || fail "the installed packages do not fit together: see the end of .setup.log"
    stamp packages
    rm -f "$CHANGING"
    say "packages installed in $((SECONDS - started)) s"
}

fetch_jars() {
    local started=$SECONDS
    require_java
    "$VENV/bin/python" scripts/configure_spark.py "$JAVA_HOME_FOUND" >>"$LOG" 2>&1 ||
        fail "Delta's jars did not come ($(tail -n 1 "$LOG")): check the network, or name a mirror of Maven Central with" \
            "MAVEN_REPOSITORY=https://…, then run 'make setup' again"
    stamp spark
    say "Delta's jars fetched in $((SECONDS - started)) s"
}

pip() {
    mkdir -p "$VENV/tmp"
    TMPDIR=$VENV/tmp PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 "$VENV/bin/python" -m pip "$@" --no-color 2>&1 |
        tee -a "$LOG" | show_progress
}

# What a person waits for, out of all that pip says.
show_progress() {
    local line shown=0
    while IFS= read -r line; do
        if [[ $line =~ ^\ *\[\ *([0-9]+)%\] ]] && ((BASH_REMATCH[1] >= shown + 20)); then
            shown=$((BASH_REMATCH[1] / 20 * 20))
            say "  compiled $shown %"
        elif [[ $line =~ Downloading\ ([^ ]+)\ \(([0-9]{3,})\.[0-9]\ MB\) ]]; then
            say "  downloading ${BASH_REMATCH[1]%%-*} (${BASH_REMATCH[2]} MB)"
        elif [[ $line == "Installing collected packages"* ]]; then
            say "  unpacking"
        fi
    done
}

require_free_disk() {
    local free
    free=$(($(df --output=avail --block-size=1G "$ROOT" | tail -1)))
    ((free >= NEEDED_GIB)) || fail "$ROOT has $free GiB of free disk, set-up needs $NEEDED_GIB: free some, or clone elsewhere"
}

main
