"""The other nodes over gRPC.

    /quorumlog.Peer/<service>    bidirectional stream of opaque messages, one connection each
    /quorumlog.Call/<method>     one opaque request, one opaque answer; all calls to a node share a connection

Each stream has a connection of its own, so that bulk never stands before control, and a fresh one, so that a peer which is
back is reached at once instead of after gRPC's back-off. A peer's death closes the connection and is seen within
milliseconds; a silent peer (cut cable, SIGSTOP) is given up after about three seconds without an answer to a ping.
"""

import asyncio
import errno
import functools
import logging
import socket
from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio
from grpc.aio import EOF  # type: ignore[attr-defined]  # missing in the stubs

from quorumlog.host.peer_identity import (
    Hello,
    PeerCredentials,
    Refused,
    check_caller,
    check_certificate,
    check_hello,
    is_loopback,
    node_name,
    proven_certificates,
)
from quorumlog.host.peer_stream import MESSAGE_BYTES_MAX, GrpcStream, describe, is_cancelled
from quorumlog.host.ports import CallHandler, PeerGone, PeerStream, StreamHandler

logger = logging.getLogger(__name__)

CONCURRENT_RPCS_MAX = 1024
_CLOSE_TIMEOUT_S = 0.2
_PROBE_TIMEOUT_S = 0.5

_COMMON_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 1500),
    ("grpc.keepalive_timeout_ms", 1500),
    # grpcio 1.85 sends the keepalive ping but waits a minute for its answer, whatever keepalive_timeout_ms says.
    ("grpc.http2.ping_timeout_ms", 1500),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]
_SERVER_OPTIONS = [
    *_COMMON_OPTIONS,
    # Two servers must never share a port: on Linux gRPC would let them.
    ("grpc.so_reuseport", 0),
    # Peers ping more often than gRPC's servers suffer by default.
    ("grpc.http2.min_ping_interval_without_data_ms", 500),
    ("grpc.http2.max_ping_strikes", 0),
]
_CHANNEL_OPTIONS = [
    *_COMMON_OPTIONS,
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
]

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
_Channel: TypeAlias = Any  # a grpc.aio.Channel: the stubs demand arguments that it has defaults for


class GrpcPeers:
    """Implements `Peers`. The node makes one, sets handlers and addresses, starts it and stops it at its end.

    With credentials both sides prove who they are; without, everything stays on loopback. Lives on one event loop.
    """

    def __init__(self, *, cluster_id: str, node_id: int, credentials: PeerCredentials | None = None) -> None:
        """Raises Refused if the certificate is not this node's."""
        if credentials:
            check_certificate(credentials.certificate_pem, cluster_id=cluster_id, node_id=node_id)
        self.cluster_id = cluster_id
        self.node_id = node_id
        self._credentials = credentials
        self._stream_handlers: dict[str, StreamHandler] = {}
        self._call_handlers: dict[str, CallHandler] = {}
        self._addresses: dict[int, tuple[str, int]] = {}
        self._server: grpc.aio.Server | None = None
        self._stopped = False
        self._streams: set[GrpcStream] = set()
        self._handling: set[asyncio.Task[None]] = set()
        self._call_channels: dict[int, _Channel] = {}
        self._refusals = _Refusals()

    # Set up and tear down

    def serve_stream(self, service: str, handler: StreamHandler) -> None:
        self._stream_handlers[service] = handler

    def serve_call(self, method: str, handler: CallHandler) -> None:
        self._call_handlers[method] = handler

    def set_address(self, node_id: int, host: str, port: int) -> None:
        self._addresses[node_id] = (host, port)

    async def start(self, host: str, port: int) -> int:
        """Listen, on any free port if it is 0; the port. Raises ValueError for an address that needs certificates, or OSError."""
        if not self._credentials and not is_loopback(host):
            raise ValueError(f"without certificates peers can only be served on loopback (such as 127.0.0.1), not on {host}")
        server = grpc.aio.server(options=_SERVER_OPTIONS, maximum_concurrent_rpcs=CONCURRENT_RPCS_MAX)
        server.add_generic_rpc_handlers((_Methods(self._method),))
        bound = self._bind(server, _join(host, port))
        await server.start()
        self._server = server
        return bound

    async def stop(self, grace_s: float) -> None:
        """Close every stream, give handlers and calls `grace_s` seconds to end, then cancel them. Nothing is left running."""
        self._stopped = True
        await asyncio.gather(*(stream.close() for stream in list(self._streams)))
        if self._server:
            await self._server.stop(grace_s)
            self._server = None
        await self._end_handlers(grace_s)
        for node_id, channel in list(self._call_channels.items()):
            await self._drop_call_channel(node_id, channel)

    async def _end_handlers(self, grace_s: float) -> None:
        if self._handling:
            _done, late = await asyncio.wait(self._handling, timeout=grace_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    def _bind(self, server: grpc.aio.Server, address: str) -> int:
        try:
            bound = self._add_port(server, address)
        except RuntimeError as error:
            raise OSError(errno.EADDRINUSE, f"cannot listen for peers on {address}: {error}") from error
        if not bound:
            raise OSError(errno.EADDRINUSE, f"cannot listen for peers on {address}")
        return bound

    def _add_port(self, server: grpc.aio.Server, address: str) -> int:
        if not self._credentials:
            return server.add_insecure_port(address)
        pair = (self._credentials.key_pem, self._credentials.certificate_pem)
        return server.add_secure_port(
            address, grpc.ssl_server_credentials([pair], self._credentials.ca_pem, require_client_auth=True)
        )

    # Ask others

    async def connect(self, node_id: int, service: str, timeout_s: float) -> PeerStream:
        channel = self._open_channel(node_id)
        try:
            async with asyncio.timeout(timeout_s):
                call = channel.stream_stream(f"/quorumlog.Peer/{service}")(metadata=self._hello(node_id).to_metadata())
                await self._check_welcome(call, node_id)
        except (TimeoutError, grpc.aio.AioRpcError, Refused) as error:
            await channel.close()
            raise self._gone(node_id, error) from error
        except BaseException as error:
            await channel.close()
            # gRPC calls a stream 'cancelled' when its channel closes; only our own task's cancellation is one for us.
            if isinstance(error, asyncio.CancelledError) and not is_cancelled():
                raise self._gone(node_id, error) from error
            raise
        stream = self._client_stream(node_id, channel, call)
        if self._stopped:  # meanwhile, so that `stop` did not know of this stream
            await stream.close()
            raise PeerGone(f"node {node_id} was reached when this node had stopped its peer connections")
        return stream

    async def call(self, node_id: int, method: str, request: bytes, timeout_s: float) -> bytes:
        channel = self._call_channel(node_id)
        metadata = self._hello(node_id).to_metadata()
        try:
            answer: bytes = await channel.unary_unary(f"/quorumlog.Call/{method}")(request, timeout=timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                await self._drop_call_channel(node_id, channel)
            raise self._gone(node_id, error) from error
        except asyncio.CancelledError as error:
            if is_cancelled():
                raise
            raise self._gone(node_id, error) from error
        return answer

    async def is_refused(self, node_id: int) -> bool:
        """One attempt, 0.5 s at most. A dying process closes one socket after the other: its port may refuse some ms later."""
        if node_id not in self._addresses:
            return False
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                return await _is_port_refused(*self._addresses[node_id])
        except (TimeoutError, OSError):
            return False

    def _hello(self, node_id: int) -> Hello:
        return Hello(cluster_id=self.cluster_id, source=self.node_id, destination=node_id)

    def _open_channel(self, node_id: int) -> _Channel:
        if self._stopped:
            raise PeerGone(f"node {node_id} is not asked any more: this node has stopped its peer connections")
        if node_id not in self._addresses:
            raise PeerGone(f"the address of node {node_id} is not known")
        host, port = self._addresses[node_id]
        if self._credentials:
            identity = self._channel_credentials
            options = [*_CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", node_name(node_id))]
            return grpc.aio.secure_channel(_join(host, port), identity, options=options)
        if not is_loopback(host):
            raise PeerGone(f"node {node_id} at {host} is not on loopback, and there are no certificates to know it by")
        return grpc.aio.insecure_channel(_join(host, port), options=_CHANNEL_OPTIONS)

    @functools.cached_property
    def _channel_credentials(self) -> grpc.ChannelCredentials:
        assert self._credentials
        return grpc.ssl_channel_credentials(
            self._credentials.ca_pem, self._credentials.key_pem, self._credentials.certificate_pem
        )

    async def _check_welcome(self, call: Any, node_id: int) -> None:
        """Wait for the other side's own hello. Raises Refused, or AioRpcError with what it said instead."""
        metadata = await call.initial_metadata()
        if not any(key == "quorumlog-source" for key, _value in metadata or ()):
            raise Refused(f"{(await call.code()).name}: {await call.details()}")
        hello = Hello.from_metadata(metadata)
        check_hello(hello, cluster_id=self.cluster_id, node_id=self.node_id)
        if hello.source != node_id:
            raise Refused(f"node {hello.source} answered")

    def _client_stream(self, node_id: int, channel: _Channel, call: Any) -> GrpcStream:
        async def hang_up() -> None:
            try:
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    await call.done_writing()
                    await call.code()
            except (TimeoutError, grpc.aio.AioRpcError, asyncio.InvalidStateError):
                logger.debug("node %d did not answer the end of a stream", node_id)
            finally:
                self._streams.discard(stream)
                call.cancel()
                await channel.close()
                await stream.stop_reading()

        stream = GrpcStream(node_id, read=call.read, write=call.write, end_of_stream=EOF, hang_up=hang_up)
        self._streams.add(stream)
        return stream

    def _call_channel(self, node_id: int) -> _Channel:
        channel = self._call_channels.get(node_id)
        if channel is None:
            channel = self._call_channels[node_id] = self._open_channel(node_id)
        return channel

    async def _drop_call_channel(self, node_id: int, channel: _Channel) -> None:
        """The next call connects anew, to where the node is then, without waiting for this channel's back-off."""
        held = self._call_channels.get(node_id)
        if held is not None and held is channel:
            del self._call_channels[node_id]
            await held.close()

    def _gone(self, node_id: int, error: BaseException) -> PeerGone:
        host, port = self._addresses.get(node_id, ("?", 0))
        reason = "it did not answer in time" if isinstance(error, TimeoutError) else describe(error)
        return PeerGone(f"node {node_id} at {_join(host, port)} is gone: {reason}")

    # Answer others

    def _method(self, path: str) -> _Handler:
        """What serves a gRPC method; None for one we do not have, which gRPC answers with UNIMPLEMENTED."""
        kind, _, name = path.lstrip("/").partition("/")
        if kind == "quorumlog.Peer" and name in self._stream_handlers:
            return grpc.stream_stream_rpc_method_handler(functools.partial(self._serve_stream, name))
        if kind == "quorumlog.Call" and name in self._call_handlers:
            return grpc.unary_unary_rpc_method_handler(functools.partial(self._serve_call, name))
        return None

    async def _serve_stream(self, service: str, _requests: object, context: _Context) -> None:
        source = await self._admit(context)
        await context.send_initial_metadata(self._hello(source).to_metadata())
        stream = GrpcStream(source, read=context.read, write=context.write, end_of_stream=EOF, hang_up=_nothing_to_do)
        self._streams.add(stream)
        task = asyncio.create_task(self._handle(service, stream), name=f"serve {service} of node {source}")
        self._handling.add(task)
        task.add_done_callback(self._handling.discard)
        try:
            # The handler is not awaited: it learns of the end as PeerGone, and may still have to put things in order.
            await stream.wait_ended()
        finally:
            stream.end("the connection is gone")
            self._streams.discard(stream)
            await stream.stop_reading()

    async def _handle(self, service: str, stream: GrpcStream) -> None:
        try:
            await self._stream_handlers[service](stream)
        except PeerGone as error:
            logger.debug("%s: %s", service, error)
        except Exception:
            logger.exception("the handler of stream %s failed on a message of node %d", service, stream.node_id)
        finally:
            await stream.close()

    async def _serve_call(self, method: str, request: bytes, context: _Context) -> bytes:
        source = await self._admit(context)
        try:
            return await self._call_handlers[method](source, request)
        except Exception:
            logger.exception("the handler of call %s failed on a request of node %d", method, source)
            return await _abort(context, grpc.StatusCode.INTERNAL, f"{method} failed, see the log of node {self.node_id}")

    async def _admit(self, context: _Context) -> int:
        """The id of the node that asks. Ends the request with PERMISSION_DENIED if it is not welcome."""
        try:
            hello = Hello.from_metadata(context.invocation_metadata())
            check_hello(hello, cluster_id=self.cluster_id, node_id=self.node_id)
            proven = proven_certificates(context.auth_context()) if self._credentials else None
            check_caller(hello, certificates=proven, address=context.peer())
        except Refused as error:
            self._refusals.log(context.peer(), str(error))
            return await _abort(context, grpc.StatusCode.PERMISSION_DENIED, str(error))
        return hello.source


class _Methods(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in the stubs alone
    """Looks methods up at the time of each request, so that handlers may be added after the start."""

    def __init__(self, find: Callable[[str], _Handler]) -> None:
        self._find = find

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> _Handler:
        return self._find(handler_call_details.method)


class _Refusals:
    """Says once what is wrong with a peer, since a wrong peer tries again and again."""

    _COUNT_MAX = 100

    def __init__(self) -> None:
        self._said: set[tuple[str, str]] = set()

    def log(self, address: str, reason: str) -> None:
        entry = (address.rpartition(":")[0], reason)
        if entry in self._said:
            return
        if len(self._said) >= self._COUNT_MAX:
            self._said.clear()
        self._said.add(entry)
        logger.warning("refused a peer at %s: %s", address, reason)


async def _abort(context: _Context, code: grpc.StatusCode, reason: str) -> NoReturn:
    await context.abort(code, reason)
    raise AssertionError("abort raises")


async def _nothing_to_do() -> None:
    """The serving side hangs up by ending the request, which `_serve_stream` does when it sees the stream's end."""


async def _is_port_refused(host: str, port: int) -> bool:
    """True if every address of the host says that nothing listens. Raises OSError for any other failure."""
    loop = asyncio.get_running_loop()
    for family, kind, protocol, _name, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        with socket.socket(family, kind, protocol) as probe:
            probe.setblocking(False)
            try:
                await loop.sock_connect(probe, address)
            except ConnectionRefusedError:
                continue
            return False
    return True


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
