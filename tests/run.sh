#!/usr/bin/env bash
# Make the virtual environment if needed, and run the tests, two files at once. Arguments go to pytest; `-n 0` runs them
# one by one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash reproduce.sh --setup
# References of the other systems' networks and Keras's other backends: without them their tests are skipped.
if ! cmp -s tests/requirements-torch.txt .venv/torch-from.txt; then
    echo "installing PyTorch, MONAI and JAX for the tests (6 GB)"
    if .venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/requirements-torch.txt; then
        cp tests/requirements-torch.txt .venv/torch-from.txt
    fi
fi
# The browser that opens the report in the tests; without one those tests are skipped and say so.
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null &&
    ! { command -v chromium && command -v chromedriver; } >/dev/null; then
    echo "installing Debian's chromium and chromium-driver for the tests of the report"
    export DEBIAN_FRONTEND=noninteractive
    timeout 120 apt-get update >/dev/null 2>&1 || true
    timeout 600 apt-get install --yes --no-install-recommends chromium chromium-driver >/dev/null 2>&1 || true
fi
exec .venv/bin/python -m pytest --numprocesses auto --maxprocesses 2 --dist loadfile "$@"
