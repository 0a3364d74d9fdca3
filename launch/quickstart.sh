#!/usr/bin/env bash
# Installs jaxdl into .venv and runs the small version of the noise-aware training study.
set -euo pipefail

usage='Usage: bash launch/quickstart.sh [--python=PATH]

Makes the virtual environment .venv, installs jaxdl into it and runs the noise-aware training study
on small images that come with the package, into runs/quickstart. Running it again goes on where
it stopped. Only the package index is contacted; the PIP_* environment variables work as always.

  --python=PATH  the Python (3.11-3.13) to make .venv with; default: the first found on PATH
  --help         this text'

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=/dev/null
source "$root/launch/venv.sh"

python=
for argument in "$@"; do
  case $argument in
    --help | -h) echo "$usage" && exit ;;
    --python=?*) python=${argument#*=} ;;
    *) stop "unknown option '$argument'; --help lists them." ;;
  esac
done

make_venv "$root" .venv '' "$python"
base=$root/
[[ $PWD == "$root" ]] && base= # paths as short as they can be
exec "${base}.venv/bin/python" "${base}experiments/noise_aware.py" \
  --config="${base}experiments/configs/noise_aware.py:smoke" --workdir="${base}runs/quickstart"
