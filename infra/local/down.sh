#!/bin/sh
# Stop what `up.sh` started, by the process ids it wrote down.
set -eu
cd "$(dirname "$0")/../.."

# a pid that nobody has waited for is dead, too: it stays in the table as long as its parent likes
runs() { kill -0 "$1" 2>/dev/null && case $(ps -o stat= -p "$1" 2>/dev/null) in Z*) return 1 ;; esac; }
# half seconds to wait
gone() { tries=$2; while runs "$1" && [ "$tries" -gt 0 ]; do sleep 0.5; tries=$((tries - 1)); done; ! runs "$1"; }

for name in worker server; do
  file=${RUN:-.run}/$name.pid
  [ -f "$file" ] || continue
  pid=$(cat "$file")
  if runs "$pid"; then
    kill -TERM "-$pid" 2>/dev/null || true
    gone "$pid" 30 || true
    kill -KILL "-$pid" 2>/dev/null || true
    gone "$pid" 20 || { echo "make down: $name (process $pid) does not die" >&2; exit 1; }
    echo "stopped $name"
  fi
  rm -f "$file"
done
# the server's address and password
if grep -qsxF "# written by make up, removed by make down" prefect.toml; then rm prefect.toml; fi
