#!/usr/bin/env bash
# Copies the working tree to all workers of a Cloud TPU VM and runs a command on all of them.
set -euo pipefail

usage='Usage: bash launch/tpu_vm.sh NAME ZONE [OPTION ...] -- COMMAND ...
       bash launch/tpu_vm.sh NAME ZONE [OPTION ...] --ACTION

The first form copies this folder (not what .gitignore names) to every worker of the TPU VM NAME,
makes .venv there, installs jaxdl[tpu] into it, starts COMMAND --distributed on all workers and
shows the output of worker 0 until it ends. COMMAND outlives a lost connection, and Ctrl-C ends only
the showing. With more than one worker --workdir must lie in a folder that all of them share.

Actions, for a command that was started before:
  --attach   show its output until it ends
  --status   say of every worker whether it runs, or how it ended
  --stop     SIGTERM: it saves and ends with exit code 75
  --resume   start the same command again: it goes on where it stopped
  --fetch    copy what the runs wrote, but their checkpoints, to runs/from-NAME

Options:
  --project=P      the Google Cloud project; default: that of gcloud
  --folder=DIR     folder on the workers, in the home folder there (jaxdl)
  --setup=COMMAND  a shell command to run there first, such as '"'"'sudo apt-get install -y
                   python3.11-venv'"'"'
  --python=PATH    the Python (3.11-3.13) there to make .venv with; default: the first on PATH
  --as_is          do not add --distributed: to prepare a data set on every worker
  --worker=N       the worker that --attach and --fetch speak of (0)
  --detach         start COMMAND and return
  --dry_run        print the commands and stop
  --help           this text

Exit code: that of COMMAND on worker 0 (75: stopped with everything saved, --resume goes on); 2 for
bad arguments.

Example: bash launch/tpu_vm.sh my-tpu us-central2-b -- python experiments/classify.py'

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=/dev/null
source "$root/launch/venv.sh"
# shellcheck source=/dev/null
source "$root/launch/remote.sh"

names=() project='' folder=jaxdl setup='' python='' as_is='' worker=0 detach='' dry_run='' action=''
while (($#)); do
  case $1 in
    --help | -h) echo "$usage" && exit ;;
    --project=?*) project=${1#*=} ;;
    --folder=?*) folder=${1#*=} ;;
    --setup=?*) setup=${1#*=} ;;
    --python=?*) python=${1#*=} ;;
    --worker=?*) worker=${1#*=} ;;
    --as_is) as_is=1 ;;
    --detach) detach=1 ;;
    --dry_run) dry_run=1 ;;
    --attach | --status | --stop | --resume | --fetch)
      [[ -z $action ]] || stop "give one of --$action and $1, not both."
      action=${1#--}
      ;;
    --) shift && break ;;
    -*) stop "unknown option '$1'; --help lists them, and COMMAND comes after --." ;;
    *)
      ((${#names[@]} < 2)) || stop "unexpected argument '$1': COMMAND comes after --."
      names+=("$1")
      ;;
  esac
  shift
done
((${#names[@]} == 2)) || stop 'the name of the TPU VM and its zone are needed: NAME ZONE.'
name=${names[0]} zone=${names[1]}
[[ $worker =~ ^[0-9]+$ ]] || stop "--worker must be the number of a worker, not '$worker'."
[[ $folder =~ ^[A-Za-z0-9_./-]+$ ]] || stop "--folder must be a plain path, not '$folder'."
if [[ -n $action ]]; then
  (($# == 0)) || stop "--$action takes no COMMAND."
else
  (($#)) || stop 'there is no command: it comes after --.'
  action=run
fi
need gcloud 'install the Google Cloud CLI'

where=("--zone=$zone")
[[ -z $project ]] || where+=("--project=$project")

# on WORKERS COMMAND_LINE
on() {
  do_or_say gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" "--worker=$1" "--command=$2"
}

# there WORKERS COMMAND ...
there() {
  local workers=$1
  shift
  on "$workers" "$(in_folder "$folder" "$@")"
}

copy() {
  local temporary=/tmp/jaxdl.XXXXXX archive ignored
  [[ -n $dry_run ]] || temporary=$(mktemp -d "${TMPDIR:-/tmp}/jaxdl.XXXXXX")
  archive=$temporary/jaxdl.tar.gz
  mapfile -t ignored < <(sed 's,/$,,' "$root/.gitignore")
  do_or_say tar -C "$root" -czf "$archive" --exclude=./.git "${ignored[@]/#/--exclude=}" .
  do_or_say gcloud compute tpus tpu-vm scp "$archive" "$name:" "${where[@]}" --worker=all
  [[ -n $dry_run ]] || rm -r "$temporary"
  # Files that were sent before and are gone here must go there too; .sent lists them.
  # shellcheck disable=SC2016
  on all "mkdir -p $folder && cd $folder && touch .sent && xargs -d '\\n' rm -f -- <.sent && \
tar -xzf ~/jaxdl.tar.gz && tar -tzf ~/jaxdl.tar.gz | grep -v '/\$' >.sent"
}

case $action in
  run)
    command=("$@")
    [[ -n $as_is || " $* " == *' --distributed '* ]] || command+=(--distributed)
    [[ -z $setup ]] || on all "$setup"
    copy
    there all bash launch/job.sh install '[tpu]' ${python:+"$python"}
    there all bash launch/job.sh start runs/.job "${command[@]}"
    [[ -n $detach ]] || there "$worker" bash launch/job.sh attach runs/.job
    ;;
  resume)
    there all bash launch/job.sh again runs/.job
    [[ -n $detach ]] || there "$worker" bash launch/job.sh attach runs/.job
    ;;
  attach) there "$worker" bash launch/job.sh attach runs/.job ;;
  status | stop) there all bash launch/job.sh "$action" runs/.job ;;
  fetch)
    to=runs/from-${name#*@}
    if [[ -n $dry_run ]]; then
      there "$worker" tar -czf - --exclude='checkpoints*' --exclude=./.job -C runs .
      exit
    fi
    mkdir -p "$to"
    there "$worker" tar -czf - --exclude='checkpoints*' --exclude=./.job -C runs . |
      tar -xzf - -C "$to"
    find "$to" -name report.html
    ;;
esac
