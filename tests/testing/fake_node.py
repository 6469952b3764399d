"""A stand-in for `python -m quorumlog.node`: takes the same arguments, binds the ports, answers /readyz. Starts in 50 ms.

Settings that only it knows: `fake_exit=3` ends `run` with that status, `fake_never_ready=1` answers /readyz with 503,
`fake_ignore_term=1` does not stop on SIGTERM.
"""

import argparse
import http.server
import json
import signal
import socket
import sys
import threading
import tomllib
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    formatter = commands.add_parser("format")
    for option in ("--data-dir", "--cluster-id", "--node-id", "--voters"):
        formatter.add_argument(option)
    formatter.add_argument("--ignore-formatted", action="store_true")
    runner = commands.add_parser("run")
    runner.add_argument("--config", required=True)
    runner.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    return _format(arguments) if arguments.command == "format" else _run(arguments)


def _format(arguments: argparse.Namespace) -> int:
    meta = Path(arguments.data_dir) / "meta.json"
    identity = {"cluster_id": arguments.cluster_id, "node_id": arguments.node_id}
    if meta.exists() and json.loads(meta.read_text()) != identity:
        print(f"{meta.parent} is formatted for another node", file=sys.stderr)
        return 1
    meta.parent.mkdir(parents=True, exist_ok=True)
    meta.write_text(json.dumps(identity))
    return 0


def _run(arguments: argparse.Namespace) -> int:
    config = tomllib.loads(Path(arguments.config).read_text()) | dict(pair.split("=", 1) for pair in arguments.set)
    print(f"fake node {config['node_id']} starts with {sorted(config)}", flush=True)
    if "fake_exit" in config:
        print("fake node fails as told", flush=True)
        return int(config["fake_exit"])
    assert (Path(config["data_dir"]) / "meta.json").exists(), "not formatted"
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    listeners = [_listen(config["kafka_listen"]), _listen(config["peer_listen"])]
    server = _http_server(config["http_listen"], status=503 if "fake_never_ready" in config else 200)
    signal.sigwait({signal.SIGUSR1 if "fake_ignore_term" in config else signal.SIGTERM})
    server.shutdown()
    print("fake node stops cleanly", flush=True)
    return 0 if listeners else 1


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_server((host, int(port)))


def _http_server(address: str, status: int) -> http.server.ThreadingHTTPServer:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"{}" if status == 200 else b'{"reason": "metadata is behind"}'
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  http.server's name
            pass

    host, _, port = address.rpartition(":")
    server = http.server.ThreadingHTTPServer((host, int(port)), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


if __name__ == "__main__":
    sys.exit(main())
