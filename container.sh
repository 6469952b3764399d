#!/bin/sh
# What a container does: format the data directory unless it is, then run the node, and end as it ends.
#
# The kernel drops signals that process 1 has no handler for, and a Python process has none in its first second: as process 1
# the node would not see a `docker stop` that comes early, and be killed 30 seconds later. So this shell is process 1.
set -eu

child=
stopped=
interrupted=
stop() {
  stopped=yes
  interrupted=yes
  [ -z "$child" ] || kill -TERM "$child" 2>/dev/null || true
}
trap stop TERM INT

run() { # COMMAND...: its status, also when a signal interrupts the waiting
  "$@" &
  child=$!
  [ -z "$stopped" ] || kill -TERM "$child" 2>/dev/null || true
  interrupted=
  status=0
  wait "$child" || status=$?
  # A wait that was interrupted has told the signal's number; the next one tells the status, or 127 if that was told already.
  while [ -n "$interrupted" ]; do
    interrupted=
    again=0
    wait "$child" 2>/dev/null || again=$?
    [ "$again" = 127 ] || status=$again
  done
  child=
  return "$status"
}

run python -m quorumlog.node format --data-dir "$QUORUMLOG_DATA_DIR" --cluster-id "$QUORUMLOG_CLUSTER_ID" \
  --node-id "$QUORUMLOG_NODE_ID" --ignore-formatted
run python -m quorumlog.node run
