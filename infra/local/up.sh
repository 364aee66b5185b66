#!/bin/sh
# Prefect server, work pool, worker and deployments on this machine. `down.sh` stops what this started.
#
#   BIN     folder of the environment's programs     PORT    of the server and its UI, on loopback
#   CONFIG  configuration that the deployments read      RUN     folder for logs, process ids and the database
#
# The server takes orders from nobody without the password in prefect.toml, which Prefect's programs read in this folder.
set -eu
cd "$(dirname "$0")/../.."
BIN=${BIN:-.venv/bin} PORT=${PORT:-4200} CONFIG=${CONFIG:-demo/demo.toml}
RUN=${RUN:-.run}
ORIGIN="http://127.0.0.1:$PORT"
OURS="# written by make up, removed by make down"

[ -f "$CONFIG" ] || { echo "make up: $CONFIG is missing; run 'make demo' first, or name one with CONFIG=FILE" >&2; exit 2; }
alive() { [ -f "$RUN/$1.pid" ] && kill -0 "$(cat "$RUN/$1.pid")" 2>/dev/null; }
if alive worker; then echo "make up: already running; 'make down' stops it" >&2; exit 1; fi
if [ -e prefect.toml ] && ! grep -qxF "$OURS" prefect.toml; then
  echo "make up: prefect.toml is not ours; move its settings into a profile (prefect profile create) and remove it" >&2
  exit 2
fi
# whoever listens there already would be sent the password, and our worker would do what he says
alive server || "$BIN/python" -c "import socket; socket.create_server(('127.0.0.1', $PORT)).close()" 2>/dev/null ||
  { echo "make up: another program listens on port $PORT; name another with PORT=NUMBER" >&2; exit 2; }

mkdir -p "$RUN"
SLIMPAJAMA_HOME=$(pwd)
SLIMPAJAMA_CONFIG=$(cd "$(dirname "$CONFIG")" && pwd)/$(basename "$CONFIG")
export SLIMPAJAMA_HOME SLIMPAJAMA_CONFIG
RUN=$(cd "$RUN" && pwd)
if alive server; then
  # it stayed up when its deployments were refused
  said() { sed -n "s/^$1 = \"\(.*\)\"\$/\1/p" prefect.toml; }
  PREFECT_API_AUTH_STRING=$(said auth_string) ORIGIN=$(said url | sed 's|/api$||')
else
  PREFECT_API_AUTH_STRING=slimpajama:$("$BIN/python" -c "import secrets; print(secrets.token_urlsafe(32))")
fi
export RUN PREFECT_API_AUTH_STRING PREFECT_HOME="$RUN/prefect" PREFECT_API_URL="$ORIGIN/api"
export DO_NOT_TRACK=1 PREFECT_SERVER_ANALYTICS_ENABLED=false
rm -f prefect.toml
(
  umask 077
  cat >prefect.toml <<TEXT
$OURS
[api]
url = "$PREFECT_API_URL"
auth_string = "$PREFECT_API_AUTH_STRING"
TEXT
)

# setsid: each has a process group of its own, so that `down` reaches the children too
start() { name=$1; shift; setsid "$@" >"$RUN/$name.log" 2>&1 </dev/null & echo $! >"$RUN/$name.pid"; }

if ! alive server; then
  echo "starting the server ..."
  start server env PREFECT_UI_API_URL="$PREFECT_API_URL" PREFECT_SERVER_API_AUTH_STRING="$PREFECT_API_AUTH_STRING" \
    PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED=true PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS="$ORIGIN" \
    "$BIN/prefect" server start --host 127.0.0.1 --port "$PORT"
fi
code=0
SERVER_PID=$(cat "$RUN/server.pid") BIN="$BIN" sh infra/deploy.sh >"$RUN/deploy.log" 2>&1 || code=$?
if [ $code -eq 2 ]; then
  tail -n 1 "$RUN/deploy.log" >&2
  echo "make up: the server stays up at $ORIGIN (password: $SLIMPAJAMA_HOME/prefect.toml); put it right, then make up" >&2
  exit 2
fi
if [ $code -ne 0 ] || ! alive server; then
  echo "make up: the server on port $PORT does not take the deployments; last words of both:" >&2
  tail -n 5 "$RUN/server.log" >&2
  tail -n 20 "$RUN/deploy.log" >&2
  sh infra/local/down.sh
  exit 1
fi
# the server listens for the heartbeats of runs (infra/local/automations.yaml)
start worker env PREFECT_FLOWS_HEARTBEAT_FREQUENCY=30 "$BIN/prefect" worker start --pool local --name laptop

cat <<TEXT
UI           $ORIGIN, which asks for the password: auth_string in $SLIMPAJAMA_HOME/prefect.toml
deployments  nightly, prepare-corpus, train-model, evaluate-model, generate-text, tune-model, clean-up,
             recover (when a run has died)
$(grep '^schedule ' "$RUN/deploy.log")
settings     $SLIMPAJAMA_CONFIG
start one    $BIN/prefect deployment run nightly/nightly --watch
stop all     make down
TEXT
