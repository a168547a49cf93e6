#!/usr/bin/env bash
# Debian's chromium for the tests that open the report, where it is missing and this may install it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly LOG=$PWD/.setup.log

say() { printf 'test-browser: %s\n' "$*" >&2; }

source scripts/system_packages.sh

command -v chromium >/dev/null && exit 0
if can_install && apt_install chromium fonts-dejavu-core && command -v chromium >/dev/null; then exit 0; fi
say "chromium is missing: type 'sudo apt-get install -y chromium', then 'make test-browser' again"
exit 1
