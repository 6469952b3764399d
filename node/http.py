"""The HTTP listener: /healthz (the process serves), /readyz (it is part of the cluster) and /metrics."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .config import Address

Readiness = Callable[[], str | None]


class HttpListener:
    """Owned by the node's process. `not_ready` returns what is missing, or None."""

    def __init__(self, *, not_ready: Readiness, render_metrics: Callable[[], bytes]) -> None:
        self._not_ready = not_ready
        self._render_metrics = render_metrics
        self._server: uvicorn.Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, address: Address) -> None:
        routes = [Route("/healthz", self._healthz), Route("/readyz", self._readyz), Route("/metrics", self._metrics)]
        config = uvicorn.Config(
            Starlette(routes=routes), host=address.host, port=address.port, log_level="warning", lifespan="off",
            access_log=False, limit_concurrency=100, timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(), name="http")
        while not self._server.started:
            if self._task.done():
                self._task.result()
                raise OSError(f"cannot listen for HTTP on {address}")
            await asyncio.sleep(0.005)

    async def close(self) -> None:
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await asyncio.wait({self._task}, timeout=3)

    async def _healthz(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _readyz(self, _request: Request) -> Response:
        missing = self._not_ready()
        if missing is None:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready", "reason": missing}, status_code=503)

    async def _metrics(self, _request: Request) -> Response:
        return Response(self._render_metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")


class _Server(uvicorn.Server):
    """Signals belong to the node, not to its HTTP listener."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
