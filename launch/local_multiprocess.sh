#!/usr/bin/env bash
# Runs a study as several processes on this machine that train one model together.
set -euo pipefail

usage='Usage: bash launch/local_multiprocess.sh N [OPTION ...] -- COMMAND ...

Starts N processes of COMMAND --distributed. They find each other through the environment variables
JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID. Process 0 writes to the terminal, the
others to a log file each. When one fails, the others are ended too. Ctrl-C and SIGTERM stop all of
them with everything saved; the same command goes on.

  --port=P              port of the processes to meet at; default: a free one
  --gpus_per_process=K  process R sees K GPUs of its own: the Rth K of CUDA_VISIBLE_DEVICES, or of
                        0, 1, 2, ... where that is not set
  --logs=DIR            folder of the log files; default: a new temporary one
  --grace=SECONDS       how long the others get to end by themselves before they are killed (30)
  --dry_run             print the commands and stop
  --help                this text

Exit code: 0 when all processes ended with 0; 75 when they were stopped with everything saved; else
that of the first process that failed; 2 for bad arguments.

Example: bash launch/local_multiprocess.sh 2 -- \
           python experiments/classify.py --config=experiments/configs/classify.py:smoke'

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=/dev/null
source "$root/launch/venv.sh"
# shellcheck source=/dev/null
source "$root/launch/remote.sh"

is_free() {
  ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

given=("$@")
count='' port='' gpus='' logs='' grace=30 dry_run=
while (($#)); do
  case $1 in
    --help | -h) echo "$usage" && exit ;;
    --port=?*) port=${1#*=} ;;
    --gpus_per_process=?*) gpus=${1#*=} ;;
    --logs=?*) logs=${1#*=} ;;
    --grace=?*) grace=${1#*=} ;;
    --dry_run) dry_run=1 ;;
    --) shift && break ;;
    -*) stop "unknown option '$1'; --help lists them, and COMMAND comes after --." ;;
    *)
      [[ -z $count ]] || stop "unexpected argument '$1': COMMAND comes after --."
      count=$1
      ;;
  esac
  shift
done
is_number() { [[ $1 =~ ^[1-9][0-9]{0,4}$ ]]; }
is_number "$count" || stop "N must be the number of processes, not '$count'; --help explains."
[[ -z $port ]] || is_number "$port" || stop "--port must be a port number, not '$port'."
[[ -z $gpus ]] || is_number "$gpus" || stop "--gpus_per_process must be a number, not '$gpus'."
[[ $grace =~ ^[0-9]+$ ]] || stop "--grace must be a number of seconds, not '$grace'."
(($#)) || stop 'there is no command: it comes after --.'
command=("$@")
[[ " $* " == *' --distributed '* ]] || command+=(--distributed)

if [[ -z $port ]]; then # below the range that the system itself takes ports from
  port=$((20000 + RANDOM % 12000))
  until is_free "$port"; do port=$((20000 + RANDOM % 12000)); done
elif [[ -z $dry_run ]]; then
  is_free "$port" || stop "port $port is in use; leave --port out to take a free one."
fi

share=()
if [[ -n $gpus ]]; then
  if [[ -n ${CUDA_VISIBLE_DEVICES:-} ]]; then
    IFS=, read -ra visible <<<"$CUDA_VISIBLE_DEVICES"
  else
    mapfile -t visible < <(seq 0 $((count * gpus - 1)))
  fi
  ((${#visible[@]} >= count * gpus)) ||
    stop "$count processes with $gpus GPUs each need $((count * gpus)) GPUs; CUDA_VISIBLE_DEVICES \
names ${#visible[@]}."
  for ((rank = 0; rank < count; rank++)); do
    share+=("$(IFS=, && echo "${visible[*]:rank * gpus:gpus}")")
  done
fi

# Prints what the environment of one process holds beside the terminal's.
environment() {
  echo "JAX_COORDINATOR_ADDRESS=127.0.0.1:$port"
  echo "JAX_NUM_PROCESSES=$count"
  echo "JAX_PROCESS_ID=$1"
  [[ -z $gpus ]] || echo "CUDA_VISIBLE_DEVICES=${share[$1]}"
}

if [[ -n $dry_run ]]; then
  for ((rank = 0; rank < count; rank++)); do
    mapfile -t variables < <(environment "$rank")
    echo "${variables[*]} $(quoted "${command[@]}")"
  done
  exit
fi

if [[ -n $logs ]]; then
  mkdir -p "$logs" || stop "the folder $logs cannot be made."
else
  logs=$(mktemp -d "${TMPDIR:-/tmp}/jaxdl-processes-XXXXXX")
fi
((count == 1)) || echo "Process 0 writes here, the others to $logs/process-*.log" >&2

# With job control every process leads a group of its own: a Ctrl-C then reaches only this script,
# which passes it on once (a second signal would end the processes at once), and SIGINT is not
# ignored in them.
set -m
# Where the system can, the processes get SIGTERM when this script is killed: none is left behind.
leash=()
if setpriv --pdeathsig TERM true 2>/dev/null; then leash=(setpriv --pdeathsig TERM); fi

pids=() alive=()
for ((rank = 0; rank < count; rank++)); do
  mapfile -t variables < <(environment "$rank")
  if ((rank == 0)); then
    "${leash[@]}" env "${variables[@]}" "${command[@]}" </dev/null &
  else
    "${leash[@]}" env "${variables[@]}" "${command[@]}" </dev/null \
      >>"$logs/process-$rank.log" 2>&1 &
  fi
  pids+=($!)
  alive+=("$rank")
done

tell() {
  local rank
  for rank in "${alive[@]}"; do kill -s "$1" "${pids[rank]}" 2>/dev/null || true; done
}
trap 'tell INT' INT
trap 'tell TERM' TERM HUP

exec 3>&2 2>/dev/null # from here on bash would write a line for every job that a signal ended

failed=0 stopped=0 first='' term_at='' kill_at=''
while ((${#alive[@]})); do
  left=()
  for rank in "${alive[@]}"; do
    if kill -0 "${pids[rank]}" 2>/dev/null; then
      left+=("$rank")
      continue
    fi
    code=0
    wait "${pids[rank]}" 2>/dev/null || code=$?
    if ((code == 75)); then
      stopped=75
    elif ((code && !failed)); then
      failed=$code first=$rank
    fi
  done
  alive=("${left[@]}")
  # One that failed leaves the others waiting for it, perhaps for ever. One that was stopped
  # has usually told the others, which are still saving.
  if ((failed)) && [[ -z $kill_at ]]; then
    ((${#alive[@]})) &&
      echo "Process $first ended with exit code $failed; ending the others." >&3
    tell TERM
    kill_at=$((SECONDS + grace))
  elif ((stopped)) && [[ -z $term_at ]]; then
    term_at=$((SECONDS + grace))
  elif [[ -n $term_at && -z $kill_at ]] && ((SECONDS >= term_at)); then
    tell TERM
    kill_at=$((SECONDS + grace))
  elif [[ -n $kill_at ]] && ((SECONDS >= kill_at)); then
    for rank in "${alive[@]}"; do kill -s KILL -- "-${pids[rank]}" 2>/dev/null || true; done
  fi
  ((${#alive[@]} == 0)) || sleep 0.2
done

if [[ -n $first && $first != 0 ]]; then
  echo "The last lines of $logs/process-$first.log:" >&3
  tail -n 15 "$logs/process-$first.log" >&3
fi
if ((stopped && !failed)); then
  echo "All processes have saved. Go on with:" >&3
  echo "  bash launch/local_multiprocess.sh $(quoted "${given[@]}")" >&3
fi
exit $((failed ? failed : stopped))
