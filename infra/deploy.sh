#!/bin/sh
# Tell a Prefect server of us: work pool, deployments, automations. To be run again after every upgrade: it brings
# the deployments up to date.
#
#   PREFECT_API_URL, PREFECT_API_AUTH_STRING   the server, and the credentials where it asks for them
#   SLIMPAJAMA_HOME, SLIMPAJAMA_CONFIG         checkout and configuration, on the worker's machine
#   BIN          folder of the environment's programs
#   SERVER_PID   the server's process, where it is ours: if it dies, waiting is over
set -eu
cd "$(dirname "$0")/.."
BIN=${BIN:-.venv/bin}
: "${PREFECT_API_URL:?}" "${SLIMPAJAMA_HOME:?}" "${SLIMPAJAMA_CONFIG:?}"

answers() {
  "$BIN/python" -c "import sys, urllib.request as u; sys.exit(u.urlopen('$PREFECT_API_URL/health', timeout=2).status != 200)" 2>/dev/null
}
tries=0
until answers; do
  tries=$((tries + 1))
  if [ $tries -gt 90 ] || { [ -n "${SERVER_PID:-}" ] && ! kill -0 "$SERVER_PID" 2>/dev/null; }; then
    echo "deploy: no Prefect server answers at $PREFECT_API_URL" >&2
    exit 1
  fi
  sleep 1
done

# a run of this pool brings no command, environment or working directory of its own
POOL=infra/local/pool.json
"$BIN/prefect" work-pool inspect local >/dev/null 2>&1 ||
  "$BIN/prefect" work-pool create local --type process --base-job-template $POOL
"$BIN/prefect" work-pool update local --base-job-template $POOL
# with exit code 2 where the configuration asks for what cannot be
exec "$BIN/python" -m tasks.deploy
