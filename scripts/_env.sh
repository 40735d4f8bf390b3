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

# What builds client and server.
BUILD=('cmake>=3.25' editables hatchling ninja 'pybind11>=3.0' 'scikit-build-core>=0.11')

# install EXTRAS: client and server, editable, with those extras of the server (comma-separated). The extension is rebuilt
# by scikit-build-core, which compiles only what changed. In the environments of pip's own, a new one each time, it would
# compile everything.
install() {
  make_venv "$VENV"
  echo "Installing gradserve and gradserve-server[$1] into $VENV ..." >&2
  "$VENV/bin/pip" install --quiet "${BUILD[@]}"
  "$VENV/bin/pip" install --quiet --no-build-isolation --editable client --editable ".[$1]"
}

# exchange EXTRA: from here on VENV is a copy of what is installed so far, with that extra's onnxruntime instead of the
# training wheel. Its files are links to the same ones, and pip never writes into a file that is there.
exchange() {
  rm -rf "$VENV-$1"
  cp -al "$VENV" "$VENV-$1"
  VENV=$VENV-$1
  echo "Exchanging the training wheel for that of gradserve-server[$1] in $VENV ..." >&2
  "$VENV/bin/python" -m pip uninstall --quiet --yes onnxruntime-training
  "$VENV/bin/python" -m pip install --quiet "gradserve-server[$1]"
}
