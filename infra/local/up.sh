#!/bin/sh
# Prefect server, work pool, worker and deployments on this machine. `down.sh` stops what this started.
#
#   BIN     folder of the environment's programs     PORT    of the server and its UI, on loopback
#   CONFIG  configuration that the deployments read      RUN     folder for logs, process ids and the database
set -eu
cd "$(dirname "$0")/../.."
BIN=${BIN:-.venv/bin} PORT=${PORT:-4200} CONFIG=${CONFIG:-demo/demo.toml}
RUN=${RUN:-.run}
API="http://127.0.0.1:$PORT/api"

[ -f "$CONFIG" ] || { echo "make up: $CONFIG is missing; run 'make demo' first, or name one with CONFIG=FILE" >&2; exit 2; }
alive() { [ -f "$RUN/$1.pid" ] && kill -0 "$(cat "$RUN/$1.pid")" 2>/dev/null; }
if alive server || alive worker; then echo "make up: already running; 'make down' stops it" >&2; exit 1; fi

mkdir -p "$RUN"
SLIMPAJAMA_HOME=$(pwd)
SLIMPAJAMA_CONFIG=$(cd "$(dirname "$CONFIG")" && pwd)/$(basename "$CONFIG")
export SLIMPAJAMA_HOME SLIMPAJAMA_CONFIG
RUN=$(cd "$RUN" && pwd)
export RUN PREFECT_HOME="$RUN/prefect" PREFECT_API_URL="$API" PREFECT_UI_API_URL="$API"
export DO_NOT_TRACK=1 PREFECT_SERVER_ANALYTICS_ENABLED=false

# setsid: each has a process group of its own, so that `down` reaches the children too
start() { name=$1; shift; setsid "$@" >"$RUN/$name.log" 2>&1 </dev/null & echo $! >"$RUN/$name.pid"; }

echo "starting the server ..."
start server "$BIN/prefect" server start --host 127.0.0.1 --port "$PORT"
if ! SERVER_PID=$(cat "$RUN/server.pid") BIN="$BIN" sh infra/deploy.sh >"$RUN/deploy.log" 2>&1; then
  echo "make up: the server on port $PORT does not take the deployments; last words of both:" >&2
  tail -n 5 "$RUN/server.log" >&2
  tail -n 20 "$RUN/deploy.log" >&2
  sh infra/local/down.sh
  exit 1
fi
start worker "$BIN/prefect" worker start --pool local --name laptop

cat <<TEXT
UI           http://127.0.0.1:$PORT
deployments  nightly (every night at 02:00 UTC), prepare-corpus, train-model, evaluate-model, generate-text, tune-model,
             clean-up (Sundays at 12:00 UTC), recover (when a run has died)
settings     $SLIMPAJAMA_CONFIG
start one    PREFECT_API_URL=$API $BIN/prefect deployment run nightly/nightly --watch
stop all     make down
TEXT
