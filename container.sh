#!/bin/sh
# What a container does: format the data directory unless it is, then run the node, and end as it ends.
#
# The kernel drops signals that process 1 has no handler for, and a Python process has none in its first second: as process 1
# the node would not see a `docker stop` that comes early, and be killed 30 seconds later. So this shell is process 1.
set -eu

child=
stopped=
stop() {
  stopped=yes
  [ -z "$child" ] || kill -TERM "$child" 2>/dev/null || true
}
trap stop TERM INT

run() { # COMMAND...: its status, also when a signal interrupts the waiting
  "$@" &
  child=$!
  [ -z "$stopped" ] || kill -TERM "$child" 2>/dev/null || true
  status=0
  wait "$child" || status=$?
  while kill -0 "$child" 2>/dev/null; do
    status=0
    wait "$child" || status=$?
  done
  child=
  return "$status"
}

run python -m quorumlog.node format --data-dir "$QUORUMLOG_DATA_DIR" --cluster-id "$QUORUMLOG_CLUSTER_ID" \
  --node-id "$QUORUMLOG_NODE_ID" --ignore-formatted
run python -m quorumlog.node run
