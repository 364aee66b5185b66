#!/bin/sh
# Stop what `up.sh` started, by the process ids it wrote down.
set -eu
cd "$(dirname "$0")/../.."
for name in worker server; do
  file=${RUN:-.run}/$name.pid
  [ -f "$file" ] || continue
  pid=$(cat "$file")
  if kill -0 "$pid" 2>/dev/null; then
    kill -TERM "-$pid" 2>/dev/null || true
    tries=0
    while kill -0 "$pid" 2>/dev/null && [ $tries -lt 30 ]; do sleep 0.5; tries=$((tries + 1)); done
    kill -KILL "-$pid" 2>/dev/null || true
    echo "stopped $name"
  fi
  rm -f "$file"
done
