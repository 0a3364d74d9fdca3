# Sourced by quickstart.sh and test.sh: a virtual environment that holds this package.
# shellcheck shell=bash

stop() {
  printf '%s: %s\n' "$(basename "$0")" "$1" >&2
  exit 2
}

# Whether a Python is one that jaxdl supports and can make virtual environments.
fits() {
  "$1" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
    >/dev/null 2>&1
}

# Prints the first Python on PATH that fits.
find_python() {
  local candidate
  for candidate in python3 python3.13 python3.12 python3.11; do
    if fits "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  stop 'no Python 3.11, 3.12 or 3.13 with the module venv is on PATH; name one with --python=PATH.'
}

version_of() {
  "$1" -c 'import platform; print(platform.python_version())'
}

# make_venv ROOT FOLDER EXTRAS PYTHON: makes the environment ROOT/FOLDER if it is missing, and
# installs ROOT and EXTRAS ('' or '[test]') into it, unless that was done before and nothing that it
# depends on has changed. PYTHON may be empty.
make_venv() {
  local root=$1 venv=$1/$2 extras=$3 given=$4 python stamp
  if [[ -n $given ]] && ! fits "$given"; then
    stop "'$given' is not a Python 3.11, 3.12 or 3.13 with the module venv."
  fi
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=${given:-$(find_python)} || exit
    echo "Making $2 with Python $(version_of "$python")"
    "$python" -m venv "$venv" || stop "$venv could not be made."
  elif ! fits "$venv/bin/python"; then
    stop "$venv has Python $(version_of "$venv/bin/python"); delete that folder to make it anew."
  elif [[ -n $given && $(version_of "$given") != "$(version_of "$venv/bin/python")" ]]; then
    stop "$venv has another Python than $given; delete that folder to make it anew."
  fi
  stamp=$(
    echo "$root$extras"
    "$venv/bin/python" --version
    cd "$root" && cksum setup.cfg pyproject.toml jaxdl/__init__.py
  )
  if [[ ! -f $venv/stamp || $(<"$venv/stamp") != "$stamp" ]]; then
    echo "Installing jaxdl and what it needs into $2 (some minutes the first time)"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e "$root$extras" ||
      stop 'the installation failed, for the reason that pip gives above.'
    echo "$stamp" >"$venv/stamp"
  fi
}
