#!/usr/bin/env bash
# Copies the working tree to a GPU machine over ssh and runs a command there.
set -euo pipefail

usage='Usage: bash launch/gpu_vm.sh USER@HOST [OPTION ...] -- COMMAND ...
       bash launch/gpu_vm.sh USER@HOST [OPTION ...] --ACTION

The first form copies this folder (not what .gitignore names), makes .venv there, installs
jaxdl[cuda] into it, starts COMMAND and shows its output until it ends. COMMAND outlives a lost
connection, and Ctrl-C ends only the showing. One command runs at a time.

Actions, for a command that was started before:
  --attach   show its output until it ends
  --status   say whether it runs, or how it ended
  --stop     SIGTERM: it saves and ends with exit code 75
  --resume   start the same command again: it goes on where it stopped
  --fetch    copy what the runs wrote, but their checkpoints, to runs/from-HOST

Options:
  --port=P         port of ssh; other settings belong into ~/.ssh/config
  --folder=DIR     folder on the machine, in the home folder there (jaxdl)
  --setup=COMMAND  a shell command to run there first, such as '"'"'sudo apt-get install -y
                   python3.12-venv'"'"'
  --python=PATH    the Python (3.11-3.13) there to make .venv with; default: the first on PATH
  --detach         start COMMAND and return
  --dry_run        print the commands and stop
  --help           this text

Exit code: that of COMMAND (75: stopped with everything saved, --resume goes on); 2 for bad
arguments.

Example: bash launch/gpu_vm.sh ada@gpu.example.org -- python experiments/classify.py'

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=/dev/null
source "$root/launch/venv.sh"
# shellcheck source=/dev/null
source "$root/launch/remote.sh"

host='' port='' folder=jaxdl setup='' python='' detach='' dry_run='' action=''
while (($#)); do
  case $1 in
    --help | -h) echo "$usage" && exit ;;
    --port=?*) port=${1#*=} ;;
    --folder=?*) folder=${1#*=} ;;
    --setup=?*) setup=${1#*=} ;;
    --python=?*) python=${1#*=} ;;
    --detach) detach=1 ;;
    --dry_run) dry_run=1 ;;
    --attach | --status | --stop | --resume | --fetch)
      [[ -z $action ]] || stop "give one of --$action and $1, not both."
      action=${1#--}
      ;;
    --) shift && break ;;
    -*) stop "unknown option '$1'; --help lists them, and COMMAND comes after --." ;;
    *)
      [[ -z $host ]] || stop "unexpected argument '$1': COMMAND comes after --."
      host=$1
      ;;
  esac
  shift
done
[[ -n $host ]] || stop 'the machine is missing: USER@HOST.'
[[ -z $port || $port =~ ^[1-9][0-9]*$ ]] || stop "--port must be a port number, not '$port'."
[[ $folder =~ ^[A-Za-z0-9_./-]+$ ]] || stop "--folder must be a plain path, not '$folder'."
if [[ -n $action ]]; then
  (($# == 0)) || stop "--$action takes no COMMAND."
else
  (($#)) || stop 'there is no command: it comes after --.'
  action=run
fi
need ssh 'install the OpenSSH client'

ssh=(ssh)
[[ -z $port ]] || ssh+=(-p "$port")
terminal=()
[[ ! -t 0 ]] || terminal=(-t) # so that Ctrl-C ends what shows the output there

there() {
  do_or_say "${ssh[@]}" "$host" "$(in_folder "$folder" "$@")"
}

attach() {
  do_or_say "${ssh[@]}" ${terminal[@]+"${terminal[@]}"} "$host" \
    "$(in_folder "$folder" bash launch/job.sh attach runs/.job)"
}

copy() {
  need rsync 'install it here and on the machine'
  # What the machine wrote itself must outlive --delete.
  do_or_say rsync -az --delete-after -e "${ssh[*]}" --exclude=/.git --exclude=/runs \
    --exclude='/.venv*' --filter=':- .gitignore' "$root/" "$host:$folder/"
}

case $action in
  run)
    [[ -z $setup ]] || do_or_say "${ssh[@]}" "$host" "$setup"
    copy
    there bash launch/job.sh install '[cuda]' ${python:+"$python"}
    there bash launch/job.sh start runs/.job "$@"
    [[ -n $detach ]] || attach
    ;;
  resume)
    there bash launch/job.sh again runs/.job
    [[ -n $detach ]] || attach
    ;;
  attach) attach ;;
  status | stop) there bash launch/job.sh "$action" runs/.job ;;
  fetch)
    need rsync 'install it here and on the machine'
    to=runs/from-${host#*@}
    [[ -n $dry_run ]] || mkdir -p "$to"
    do_or_say rsync -az -e "${ssh[*]}" --exclude='checkpoints*/' --exclude=/.job/lock \
      "$host:$folder/runs/" "$to/"
    [[ -n $dry_run ]] || find "$to" -name report.html
    ;;
esac
