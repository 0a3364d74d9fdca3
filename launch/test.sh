#!/usr/bin/env bash
# Installs jaxdl with its test tools into .venv-test, then runs the linter and the tests.
set -euo pipefail

usage='Usage: bash launch/test.sh [--python=PATH] [PYTEST ARGUMENT ...]

Makes the virtual environment .venv-test, installs jaxdl[test] into it, runs ruff and pytest, and
fails if either does. Everything else is handed to pytest: a file, -k NAME, -x, -n 0 (one process).

  --python=PATH  a Python (3.11-3.13): that of a virtual environment is used as it is, with what is
                 installed there; any other makes .venv-test. Default: the first found on PATH
  --help         this text'

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=/dev/null
source "$root/launch/venv.sh"

python=
arguments=()
for argument in "$@"; do
  case $argument in
    --help | -h) echo "$usage" && exit ;;
    --python=?*) python=${argument#*=} ;;
    *) arguments+=("$argument") ;;
  esac
done

if [[ -n $python ]] && "$python" -c 'import sys; sys.exit(sys.prefix == sys.base_prefix)'; then
  python=$("$python" -c 'import sys; print(sys.executable)')
  "$python" -c 'import jaxdl, hypothesis, pytest, ruff, xdist' 2>/dev/null ||
    stop "jaxdl[test] is not in that environment: run '$python -m pip install -e ${root}[test]'."
else
  make_venv "$root" .venv-test '[test]' "$python"
  python=$root/.venv-test/bin/python
fi

# A file's tests stay in one process: they share what they compiled.
workers=$("$python" -c 'import os; print(min(8, os.cpu_count()))')
cd "$root"
lint=0 tests=0
"$python" -m ruff check . || lint=$?
"$python" -m pytest -n "$workers" --dist loadfile ${arguments[@]+"${arguments[@]}"} || tests=$?
exit $((lint > tests ? lint : tests))
