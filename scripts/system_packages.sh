# Sourced by setup.sh: Python 3.11, Java 17 and the compiler; from Debian's packages where set-up may install them.

can_install() { [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null; }

apt_install() {
    say "installing $* from Debian's packages"
    {
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
    } >>"$LOG" 2>&1
}

# --- Python ---

# Whether $1 is a whole Python 3.11: one that can make a virtual environment with pip inside.
is_python() {
    "$1" -c 'import sys, ssl, sqlite3, ctypes, bz2, lzma, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))' \
        >/dev/null 2>&1
}

# A shim of pyenv is on the path even where its version is not chosen, so each candidate is tried and not only looked up.
find_python() {
    local candidate
    if [[ -n ${PYTHON:-} ]]; then
        is_python "$PYTHON" || fail "PYTHON=$PYTHON is not a whole Python 3.11: name one that is, or unset PYTHON"
        return
    fi
    for candidate in python3.11 /usr/bin/python3.11 /usr/local/bin/python3.11 python3 python "$HOME"/.pyenv/versions/3.11*/bin/python; do
        if is_python "$candidate"; then PYTHON=$(command -v "$candidate"); return; fi
    done
    if can_install && apt_install python3.11 python3.11-venv python3.11-dev && is_python /usr/bin/python3.11; then
        PYTHON=/usr/bin/python3.11
        return
    fi
    fail "no whole Python 3.11 is found ($(python3 --version 2>&1 || true)): type" \
        "'sudo apt-get install -y python3.11 python3.11-venv python3.11-dev', or name one with 'make setup PYTHON=/path/to/python3.11'"
}

# --- Java ---

ask_for_java() { PYTHONPATH=$ROOT "$VENV/bin/python" -m behavior_lib.doctor.java; }

require_java() {
    if JAVA_HOME_FOUND=$(ask_for_java 2>>"$LOG"); then return; fi
    if [[ -z ${JAVA_HOME:-} ]] && can_install && apt_install openjdk-17-jre-headless &&
        JAVA_HOME_FOUND=$(ask_for_java 2>>"$LOG"); then
        return
    fi
    fail "$(ask_for_java 2>&1)"
}

# --- what Horovod's build needs ---

has_headers() {
    "$VENV/bin/python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'
}

require_compiler() {
    local missing=()
    command -v g++ >/dev/null || missing+=(g++)
    command -v make >/dev/null || missing+=(make)
    has_headers || missing+=(python3.11-dev)
    [[ ${#missing[@]} -gt 0 ]] || return 0
    if can_install && apt_install "${missing[@]}"; then return; fi
    fail "Horovod's build lacks ${missing[*]}: type 'sudo apt-get install -y ${missing[*]}' and run 'make setup' again, $GO_ON"
}
