# Sourced by the scripts that start commands elsewhere: quoting, and printing instead of running.
# shellcheck shell=bash

# Prints its arguments as one line that any POSIX shell reads back as the same arguments.
quoted() {
  local argument line=
  for argument in "$@"; do
    if [[ $argument =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]]; then
      line+=" $argument"
    else
      line+=" '${argument//\'/\'\\\'\'}'"
    fi
  done
  echo "${line# }"
}

# Runs a command; with dry_run set it prints it instead.
do_or_say() {
  if [[ -n ${dry_run:-} ]]; then
    quoted "$@"
  else
    "$@"
  fi
}

# need PROGRAM HINT: stops unless the program is on PATH (to print commands it need not be).
need() {
  [[ -n ${dry_run:-} ]] || command -v "$1" >/dev/null || stop "'$1' is not on PATH; $2."
}

# in_folder FOLDER COMMAND ...: prints a command line for a login shell on another machine, which
# runs COMMAND in FOLDER of the home folder there, with the programs of its virtual environment.
in_folder() {
  # shellcheck disable=SC2016
  echo "cd $(quoted "$1") && "'PATH=$PWD/.venv/bin:$PATH '"$(quoted "${@:2}")"
}
