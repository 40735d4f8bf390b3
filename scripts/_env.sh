# Sourced by the scripts beside it: a virtual environment at .venv with what the caller needs. Every script may be the first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1

VENV=${GRADSERVE_VENV:-.venv}

# make_venv DIR: an empty virtual environment, once.
make_venv() {
  [ -x "$1/bin/python" ] && return
  "${PYTHON:-python3}" -c 'import sys; v = sys.version_info[:2]; sys.exit(
    0 if v == (3, 11) else f"scripts need Python 3.11 (the last one with a gradient wheel), got {v[0]}.{v[1]}: set PYTHON")'
  "${PYTHON:-python3}" -m venv "$1"
}

# install EXTRAS: client and server, editable, with those extras of the server (comma-separated). The extension is rebuilt
# by scikit-build-core, which compiles only what changed.
install() {
  make_venv "$VENV"
  echo "Installing gradserve and gradserve-server[$1] into $VENV ..." >&2
  "$VENV/bin/pip" install --quiet --editable client --editable ".[$1]"
}
