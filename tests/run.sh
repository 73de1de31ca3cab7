#!/usr/bin/env bash
# Make the virtual environment if needed, and run the tests; arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash reproduce.sh --setup
# The browser that opens the report in the tests; without one those tests are skipped and say so.
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null &&
    ! { command -v chromium && command -v chromedriver; } >/dev/null; then
    echo "installing Debian's chromium and chromium-driver for the tests of the report"
    export DEBIAN_FRONTEND=noninteractive
    timeout 120 apt-get update >/dev/null 2>&1 || true
    timeout 600 apt-get install --yes --no-install-recommends chromium chromium-driver >/dev/null 2>&1 || true
fi
exec .venv/bin/python -m pytest "$@"
