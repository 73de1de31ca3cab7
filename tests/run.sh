#!/usr/bin/env bash
# Make the virtual environment if needed, and run the tests; arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash reproduce.sh --setup
exec .venv/bin/python -m pytest "$@"
