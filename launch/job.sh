#!/usr/bin/env bash
# What gpu_vm.sh and tpu_vm.sh call on the other machine: installs jaxdl there, and runs a command
# so that it outlives the connection it was started from.
set -euo pipefail

usage='Usage: bash launch/job.sh install EXTRAS [PYTHON]   make .venv with jaxdl and its EXTRAS
       bash launch/job.sh start DIR COMMAND ...    start it in the background
       bash launch/job.sh again DIR                start the last command once more
       bash launch/job.sh attach DIR               show its output until it ends; its exit code
       bash launch/job.sh status DIR               one line: running, or how it ended
       bash launch/job.sh stop DIR                 SIGTERM: it saves and ends with 75

DIR holds one job: the files command, log, pid, exit_code and lock. Output is appended to the log,
so that a command that goes on with a stopped run also goes on with its log. Ctrl-C ends attach
alone, not the job.'

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=/dev/null
source "$root/launch/venv.sh"
# shellcheck source=/dev/null
source "$root/launch/remote.sh"

# The lock is held as long as the job lives: a pid alone may be another program's after a restart.
is_running() {
  [[ -f $dir/lock ]] && ! flock --nonblock "$dir/lock" true
}

install() {
  make_venv "$root" .venv "$1" "${2:-}"
}

start() {
  (($#)) || stop 'there is no command.'
  is_running && stop "a job is running already: $(<"$dir/command")"
  mkdir -p "$dir"
  rm -f "$dir/exit_code" "$dir/pid"
  quoted "$@" >"$dir/command"
  echo "\$ $(<"$dir/command")" >>"$dir/log"
  # shellcheck disable=SC2016
  setsid flock --nonblock --no-fork "$dir/lock" bash -c '
    dir=$1
    shift
    "$@" >>"$dir/log" 2>&1 &
    echo $! >"$dir/pid.part" && mv "$dir/pid.part" "$dir/pid"
    code=0
    wait $! || code=$?
    echo "$code" >"$dir/exit_code.part" && mv "$dir/exit_code.part" "$dir/exit_code"
  ' job "$dir" "$@" </dev/null >/dev/null 2>&1 &
  for ((i = 0; i < 100; i++)); do
    [[ ! -f $dir/pid ]] || break
    sleep 0.1
  done
  [[ -f $dir/pid ]] || stop "the job did not start."
  status
}

again() {
  [[ -f $dir/command ]] || stop "there is no job in $dir."
  local arguments
  eval "arguments=($(<"$dir/command"))" # quoted() wrote it
  start "${arguments[@]}"
}

attach() {
  [[ -f $dir/log ]] || stop "there is no job in $dir."
  if is_running; then
    tail -n 1000 -f --pid="$(<"$dir/pid")" "$dir/log"
  else
    tail -n 1000 "$dir/log"
  fi
  while is_running; do sleep 0.2; done
  status
  [[ ! -f $dir/exit_code ]] || exit "$(<"$dir/exit_code")"
  exit 1
}

status() {
  if is_running; then
    echo "running: $(<"$dir/command")"
  elif [[ -f $dir/exit_code ]]; then
    echo "ended with exit code $(<"$dir/exit_code"): $(<"$dir/command")"
  elif [[ -f $dir/command ]]; then
    echo "ended with its machine: $(<"$dir/command")"
  else
    echo 'no job was started.'
  fi
}

stop_job() {
  is_running || stop 'no job is running.'
  kill -s TERM "$(<"$dir/pid")"
  while is_running; do sleep 0.2; done
  status
}

case ${1:-} in
  --help | -h) echo "$usage" && exit ;;
  install | start | again | attach | status | stop)
    (($# > 1)) || stop "'$1' needs an argument; --help explains."
    ;;
  *) stop "'${1:-}' is none of install, start, again, attach, status, stop; --help explains." ;;
esac
dir=$2
case $1 in
  install) install "${@:2}" ;;
  start) start "${@:3}" ;;
  again) again ;;
  attach) attach ;;
  status) status ;;
  stop) stop_job ;;
esac
