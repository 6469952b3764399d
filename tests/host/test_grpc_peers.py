"""Peers over real sockets on loopback."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import grpc
import pytest

from quorumlog.host.grpc_peers import GrpcPeers
from quorumlog.host.loop import run
from quorumlog.host.peer_identity import Hello, PeerCredentials, Refused
from quorumlog.host.peer_stream import MESSAGE_BYTES_MAX
from quorumlog.host.ports import Buffer, PeerGone, Peers, PeerStream
from tests.host.certificates import Authority, make_authority

CLUSTER = "c1"
LOOPBACK = "127.0.0.1"

Credentials = PeerCredentials | None


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority()


async def echo(stream: PeerStream) -> None:
    while True:
        await stream.send([await stream.receive()])


@asynccontextmanager
async def serving(
    node_id: int, credentials: PeerCredentials | None = None, port: int = 0
) -> AsyncIterator[tuple[GrpcPeers, int]]:
    """A node that echoes, and its port."""
    peers = GrpcPeers(cluster_id=CLUSTER, node_id=node_id, credentials=credentials)
    peers.serve_stream("echo", echo)
    bound = await peers.start(LOOPBACK, port)
    try:
        yield peers, bound
    finally:
        await peers.stop(0.1)


@asynccontextmanager
async def pair(
    one: PeerCredentials | None = None, two: PeerCredentials | None = None
) -> AsyncIterator[tuple[GrpcPeers, GrpcPeers]]:
    """Nodes 1 and 2; only 1 knows where the other is. Nothing of them is left running."""
    async with serving(1, one) as (first, _), serving(2, two) as (second, port):
        first.set_address(2, LOOPBACK, port)
        yield first, second
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_messages_cross_in_order_both_ways() -> None:
    """A stream carries whole messages, empty and large ones too."""

    async def main() -> None:
        async with pair() as (first, _second):
            stream = await first.connect(2, "echo", 1)
            messages: list[list[Buffer]] = [[b"a", memoryview(b"bc")], [], [bytes(5_000_000)], [b"last"]]
            for buffers in messages:
                await stream.send(buffers)
                assert await stream.receive() == b"".join(buffers)
            assert stream.node_id == 2
            await stream.close()

    run(main())


def test_mutual_tls_proves_both_names(authority: Authority) -> None:
    """With the cluster's certificates streams and calls work and the handler knows who asks."""

    async def main() -> None:
        async with pair(authority.credentials("node-1", CLUSTER), authority.credentials("node-2", CLUSTER)) as (first, second):
            second.serve_call("who", lambda source, request: _value(b"%d %s" % (source, request)))
            assert await first.call(2, "who", b"asks", 1) == b"1 asks"
            stream = await first.connect(2, "echo", 1)
            await stream.send([b"x"])
            assert await stream.receive() == b"x"

    run(main())


def test_a_handler_that_returns_ends_the_stream_after_its_last_message() -> None:
    """What the serving side sent before its end is received, then PeerGone."""

    async def main() -> None:
        async with pair() as (first, second):
            second.serve_stream("two words", lambda stream: _send_all(stream, b"good", b"bye"))
            stream = await first.connect(2, "two words", 1)
            assert [await stream.receive(), await stream.receive()] == [b"good", b"bye"]
            for attempt in (stream.receive, lambda: stream.send([b"x"]), stream.receive):
                with pytest.raises(PeerGone):
                    await attempt()
            await stream.close()

    run(main())


def test_closing_delivers_what_was_sent_and_ends_the_other_side() -> None:
    """The handler receives all messages, then PeerGone, within milliseconds."""

    async def main() -> None:
        received: list[bytes] = []
        ended = asyncio.Event()

        async def collect(stream: PeerStream) -> None:
            try:
                while True:
                    received.append(await stream.receive())
            finally:
                ended.set()

        async with pair() as (first, second):
            second.serve_stream("collect", collect)
            stream = await first.connect(2, "collect", 1)
            for number in range(50):
                await stream.send([b"%d" % number])
            await stream.close()
            await stream.close()
            await asyncio.wait_for(ended.wait(), 0.5)
            assert received == [b"%d" % number for number in range(50)]
            with pytest.raises(PeerGone, match="closed by this node"):
                await stream.receive()

    run(main())


def test_a_slow_receiver_holds_the_sender_back() -> None:
    """Flow control: a sender cannot run ahead by more than the transport's window."""

    async def main() -> None:
        async def never_receive(_stream: PeerStream) -> None:
            await asyncio.sleep(60)

        async with pair() as (first, second):
            second.serve_stream("stuck", never_receive)
            stream = await first.connect(2, "stuck", 1)
            sent = 0
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    while sent < 200:
                        await stream.send([bytes(1_000_000)])
                        sent += 1
            assert sent < 50
            await stream.close()

    run(main())


def test_closing_releases_a_waiting_send_and_receive() -> None:
    """They raise PeerGone, and no CancelledError that nobody asked for."""

    async def main() -> None:
        async def never_receive(_stream: PeerStream) -> None:
            await asyncio.sleep(60)

        async def send_without_end(stream: PeerStream) -> None:
            while True:
                await stream.send([bytes(1_000_000)])

        async with pair() as (first, second):
            second.serve_stream("stuck", never_receive)
            stream = await first.connect(2, "stuck", 1)
            waiting = [asyncio.create_task(send_without_end(stream)), asyncio.create_task(stream.receive())]
            await asyncio.sleep(0.1)
            await stream.close()
            results = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 0.5)
            assert [type(result) for result in results] == [PeerGone, PeerGone]

    run(main())


def test_stop_releases_a_call_under_way() -> None:
    """Whoever waits for an answer hears PeerGone when its own node stops."""

    async def main() -> None:
        async def sleep(_source: int, _request: bytes) -> bytes:
            await asyncio.sleep(60)
            return b""

        async with pair() as (first, second):
            second.serve_call("sleep", sleep)
            call = asyncio.create_task(first.call(2, "sleep", b"", 30))
            await asyncio.sleep(0.05)
            await first.stop(0)
            with pytest.raises(PeerGone):
                await asyncio.wait_for(call, 0.5)

    run(main())


def test_a_connection_that_succeeds_during_stop_is_closed() -> None:
    """No stream comes to life behind the back of stop."""

    async def main() -> None:
        async with pair() as (first, _second):
            connecting = asyncio.create_task(first.connect(2, "echo", 1))
            await asyncio.sleep(0)
            await first.stop(0)
            with pytest.raises(PeerGone):
                await connecting
            assert not first._streams

    run(main())


def test_a_receive_that_timed_out_loses_nothing() -> None:
    """Cancelling a receive leaves the stream whole."""

    async def main() -> None:
        async with pair() as (first, _second):
            stream = await first.connect(2, "echo", 1)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stream.receive(), 0.01)
            await stream.send([b"x"])
            assert await stream.receive() == b"x"

    run(main())


def test_stop_ends_streams_of_both_sides_and_late_handlers() -> None:
    """A handler that ignores the end is cancelled after the grace."""

    async def main() -> None:
        cancelled = asyncio.Event()

        async def stubborn(_stream: PeerStream) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                cancelled.set()

        async with pair() as (first, second):
            second.serve_stream("stubborn", stubborn)
            stream = await first.connect(2, "stubborn", 1)
            await second.stop(0.01)
            assert cancelled.is_set()
            with pytest.raises(PeerGone):
                await asyncio.wait_for(stream.receive(), 0.5)
            with pytest.raises(PeerGone, match="stopped"):
                await second.connect(1, "echo", 1)

    run(main())


def test_failures_of_handlers_reach_the_caller_as_peer_gone(caplog: pytest.LogCaptureFixture) -> None:
    """A bug behind a stream or call is logged where it is, and ends only that stream or call."""

    async def main() -> None:
        async def broken(*_arguments: object) -> bytes:
            raise RuntimeError("a bug")

        async with pair() as (first, second):
            second.serve_stream("broken", broken)  # type: ignore[arg-type]
            second.serve_call("broken", broken)
            stream = await first.connect(2, "broken", 1)
            with pytest.raises(PeerGone):
                await stream.receive()
            with pytest.raises(PeerGone, match="see the log of node 2"):
                await first.call(2, "broken", b"", 1)
            await check_healthy(first)

    run(main())
    assert caplog.text.count("RuntimeError: a bug") == 2


def test_nobody_there_and_nothing_known_are_peer_gone() -> None:
    """Refused, unknown, unserved and late are all answered in time with the node's name."""

    async def main() -> None:
        async def sleep(_source: int, _request: bytes) -> bytes:
            await asyncio.sleep(60)
            return b""

        async with pair() as (first, second):
            second.serve_call("sleep", sleep)
            with pytest.raises(PeerGone, match="address of node 9 is not known"):
                await first.connect(9, "echo", 1)
            for attempt in (first.connect(2, "none", 1), first.call(2, "none", b"", 1)):
                with pytest.raises(PeerGone, match="UNIMPLEMENTED"):
                    await attempt
            with pytest.raises(PeerGone, match=r"node 2 .*DEADLINE_EXCEEDED"):
                await first.call(2, "sleep", b"", 0.05)
            await second.stop(0)
            with pytest.raises(PeerGone, match=r"node 2 .*refused"):
                await first.connect(2, "echo", 1)

    run(main())


def test_a_peer_that_is_back_is_reached_at_once() -> None:
    """After a restart the first stream and the first or second call succeed, without back-off."""

    async def main() -> None:
        async with serving(1) as (first, _):
            async with serving(2) as (second, port):
                first.set_address(2, LOOPBACK, port)
                second.serve_call("id", lambda _source, request: _value(request))
                assert await first.call(2, "id", b"x", 1) == b"x"
            for _attempt in range(5):
                for question in (first.connect(2, "echo", 1), first.call(2, "id", b"", 1)):
                    with pytest.raises(PeerGone):
                        await question
            async with serving(2, port=port) as (second, _):
                second.serve_call("id", lambda _source, request: _value(request))
                began = time.perf_counter()
                await check_healthy(first)
                assert await first.call(2, "id", b"y", 1) == b"y"
                assert time.perf_counter() - began < 0.1

    run(main())


def test_is_refused_only_where_nothing_listens() -> None:
    """A listening, a silent or an unknown peer is not refused; a dead one is."""

    async def main() -> None:
        async with pair() as (first, second):
            assert not await first.is_refused(2)
            assert not await first.is_refused(9)
            await second.stop(0)
            assert await first.is_refused(2)
            first.set_address(2, "localhost", first._addresses[2][1])
            assert await first.is_refused(2)
            with silent_port() as port:
                first.set_address(2, LOOPBACK, port)
                began = time.perf_counter()
                assert not await first.is_refused(2)
                assert 0.4 < time.perf_counter() - began < 1

    run(main())


def test_two_nodes_cannot_listen_on_one_port() -> None:
    """A port that is taken is a clear error, not a shared one."""

    async def main() -> None:
        async with serving(1) as (_first, port):
            with pytest.raises(OSError, match=f"cannot listen for peers on {LOOPBACK}:{port}"):
                async with serving(2, port=port):
                    pass

    run(main())


# Strangers


def test_without_certificates_nothing_leaves_loopback() -> None:
    """Neither serving nor connecting works beyond this machine."""

    async def main() -> None:
        peers = GrpcPeers(cluster_id=CLUSTER, node_id=1)
        with pytest.raises(ValueError, match=r"without certificates .* not on 0\.0\.0\.0"):
            await peers.start("0.0.0.0", 0)
        peers.set_address(2, "192.0.2.1", 1)
        with pytest.raises(PeerGone, match="not on loopback"):
            await peers.connect(2, "echo", 1)

    run(main())


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (Hello("other", 1, 2).to_metadata(), "cluster 'other'"),
        (Hello(CLUSTER, 1, 3).to_metadata(), "for node 3"),
        (Hello(CLUSTER, 2, 2).to_metadata(), "no peer with the id 2"),
        (Hello(CLUSTER, 3, 2).to_metadata(), "certificate is for 'node-1'"),
        ((), "no valid hello"),
        ((*Hello(CLUSTER, 1, 2).to_metadata(), ("quorumlog-protocol", "2")), "protocol version 2"),
        ((*Hello(CLUSTER, 1, 2).to_metadata(), ("quorumlog-source", "one")), "no valid hello"),
        ((*Hello(CLUSTER, 1, 2).to_metadata(), ("quorumlog-cluster-bin", b"\xff")), "no valid hello"),
    ],
)
def test_a_wrong_hello_is_refused(authority: Authority, hello: tuple[tuple[str, str | bytes], ...], reason: str) -> None:
    """Streams and calls alike, before any message is read; others are served on."""

    async def main() -> None:
        credentials = authority.credentials("node-1", CLUSTER)
        async with pair(credentials, authority.credentials("node-2", CLUSTER)) as (first, second):
            second.serve_call("id", lambda _source, request: _value(request))
            channel: Any = first._open_channel(2)
            stream = channel.stream_stream("/quorumlog.Peer/echo")(metadata=hello)
            with pytest.raises(grpc.aio.AioRpcError, match=reason) as refusal:
                await stream.read()
            assert refusal.value.code() is grpc.StatusCode.PERMISSION_DENIED
            with pytest.raises(grpc.aio.AioRpcError, match=reason):
                await channel.unary_unary("/quorumlog.Call/id")(b"", metadata=hello)
            await channel.close()
            await check_healthy(first)

    run(main())


def test_strangers_certificates_are_refused(authority: Authority) -> None:
    """A certificate of another authority, of another cluster, or none at all does not get in."""

    async def main() -> None:
        good = authority.credentials("node-1", CLUSTER)
        foreign = make_authority().credentials("node-1", CLUSTER)
        forged = PeerCredentials(good.ca_pem, foreign.certificate_pem, foreign.key_pem)
        async with pair(good, authority.credentials("node-2", CLUSTER)) as (first, _second):
            for credentials in (foreign, forged, None):
                stranger = GrpcPeers(cluster_id=CLUSTER, node_id=1, credentials=credentials)
                stranger._addresses = first._addresses
                with pytest.raises(PeerGone):
                    await stranger.connect(2, "echo", 1)
                await stranger.stop(0)
            other_cluster = GrpcPeers(cluster_id="c2", node_id=1, credentials=authority.credentials("node-1", "c2"))
            other_cluster.cluster_id = CLUSTER
            other_cluster._addresses = first._addresses
            with pytest.raises(PeerGone, match="of cluster 'c2'"):
                await other_cluster.connect(2, "echo", 1)
            await other_cluster.stop(0)
            await check_healthy(first)

    run(main())


def test_an_impostor_that_listens_is_not_believed(authority: Authority) -> None:
    """Whoever took node 2's address must prove to be node 2."""

    async def main() -> None:
        async with pair(authority.credentials("node-1", CLUSTER), authority.credentials("node-2", CLUSTER)) as (first, _second):
            first.set_address(3, *first._addresses[2])
            with pytest.raises(PeerGone, match="node 3"):
                await first.connect(3, "echo", 1)

    run(main())


def test_a_node_with_a_wrong_certificate_does_not_start(authority: Authority) -> None:
    """The mistake is named before anything is served."""
    with pytest.raises(Refused, match="for 'node-2' of cluster 'c1', not for 'node-1' of cluster 'c1'"):
        GrpcPeers(cluster_id=CLUSTER, node_id=1, credentials=authority.credentials("node-2", CLUSTER))


def test_an_oversized_message_ends_only_its_stream() -> None:
    """A peer that sends more than is allowed is cut off; nothing of that size is kept."""

    async def main() -> None:
        async with pair() as (first, _second):
            options = [("grpc.max_send_message_length", -1)]
            async with grpc.aio.insecure_channel(f"{LOOPBACK}:{first._addresses[2][1]}", options=options) as any_channel:
                channel: Any = any_channel
                stream = channel.stream_stream("/quorumlog.Peer/echo")(metadata=Hello(CLUSTER, 1, 2).to_metadata())
                await stream.write(bytes(MESSAGE_BYTES_MAX + 1))
                with pytest.raises(grpc.aio.AioRpcError) as refusal:
                    await stream.read()
                assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            await check_healthy(first)

    run(main())


def test_rubbish_on_the_port_harms_nobody() -> None:
    """Bytes that are no HTTP/2 are hung up on."""

    async def main() -> None:
        async with pair() as (first, _second):
            reader, writer = await asyncio.open_connection(LOOPBACK, first._addresses[2][1])
            writer.write(os.urandom(10_000))
            await asyncio.wait_for(reader.read(), 5)
            writer.close()
            await check_healthy(first)

    run(main())


# Deaths, of a process of its own

CHILD = """
import asyncio, sys
from quorumlog.host.grpc_peers import GrpcPeers
from quorumlog.host.loop import run

async def main():
    peers = GrpcPeers(cluster_id="c1", node_id=2)
    async def hold(stream):
        await stream.send([b"held"])
        await stream.receive()
    peers.serve_stream("hold", hold)
    print(await peers.start("127.0.0.1", 0), flush=True)
    if len(sys.argv) > 1:
        peers.set_address(1, "127.0.0.1", int(sys.argv[1]))
        stream = await peers.connect(1, "hold", 5)
    await asyncio.sleep(60)

run(main())
"""


@asynccontextmanager
async def child_process(*arguments: str) -> AsyncIterator[tuple[int, int]]:
    """Node 2 in a process of its own: its pid and port."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, *arguments, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield process.pid, int(await process.stdout.readline())
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def test_kill_9_of_a_serving_peer_is_seen_at_once() -> None:
    """Both receive and a later send raise PeerGone within milliseconds, and the port refuses."""

    async def main() -> None:
        async with serving(1) as (first, _), child_process() as (pid, port):
            first.set_address(2, LOOPBACK, port)
            stream = await first.connect(2, "hold", 5)
            assert await stream.receive() == b"held"
            os.kill(pid, signal.SIGKILL)
            began = time.perf_counter()
            with pytest.raises(PeerGone):
                await asyncio.wait_for(stream.receive(), 5)
            assert time.perf_counter() - began < 0.25  # usually about 5 ms; a busy machine is slower
            with pytest.raises(PeerGone):
                await stream.send([b"x"])
            # Its sockets close one after the other, so the port may take a moment longer than the stream.
            for _attempt in range(100):
                if await first.is_refused(2):
                    break
                await asyncio.sleep(0.005)
            else:
                pytest.fail("the port of a dead process does not refuse")

    run(main())


def test_kill_9_of_a_connected_peer_is_seen_by_the_server_at_once() -> None:
    """The handler's receive raises PeerGone within milliseconds."""

    async def main() -> None:
        came, went = asyncio.Event(), asyncio.Event()

        async def hold(stream: PeerStream) -> None:
            came.set()
            try:
                await stream.receive()
            finally:
                went.set()

        async with serving(1) as (first, port):
            first.serve_stream("hold", hold)
            async with child_process(str(port)) as (pid, _):
                await asyncio.wait_for(came.wait(), 5)
                os.kill(pid, signal.SIGKILL)
                began = time.perf_counter()
                await asyncio.wait_for(went.wait(), 5)
                assert time.perf_counter() - began < 0.25

    run(main())


@pytest.mark.slow
def test_a_silent_peer_is_given_up_after_three_seconds() -> None:
    """A stopped process keeps its connections, but no ping is answered."""

    async def main() -> None:
        async with serving(1) as (first, _), child_process() as (pid, port):
            first.set_address(2, LOOPBACK, port)
            stream = await first.connect(2, "hold", 5)
            assert await stream.receive() == b"held"
            os.kill(pid, signal.SIGSTOP)
            began = time.perf_counter()
            with pytest.raises(PeerGone):
                await asyncio.wait_for(stream.receive(), 10)
            assert 1 < time.perf_counter() - began < 5
            assert not await first.is_refused(2)

    run(main())


@contextmanager
def silent_port() -> Iterator[int]:
    """A port whose queue of connections is full, so that an attempt gets no answer at all."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((LOOPBACK, 0))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def check_healthy(peers: Peers) -> None:
    """Node 2 still serves node 1."""
    stream = await peers.connect(2, "echo", 1)
    await stream.send([b"still here"])
    assert await stream.receive() == b"still here"
    await stream.close()


async def _value(value: bytes) -> bytes:
    return value


async def _send_all(stream: PeerStream, *messages: bytes) -> None:
    for message in messages:
        await stream.send([message])
