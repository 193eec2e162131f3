#!/bin/sh
# Make a virtual environment with the pinned packages: make-venv.sh PYTHON VENV
set -eu
python=$1
venv=$2

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "fewshot-node needs Python 3.11 or newer; $python is $("$python" -V). Say which: make PYTHON=python3.12" >&2
    exit 1
}
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
    else
        echo "Python's venv module is missing: install the package python3-venv, then run make again" >&2
        exit 1
    fi
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
# constraints.txt holds the one set of versions that is known to work together.
"$venv/bin/python" -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
