"""What a producer makes of answers, of silence and of moving leaders."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from quorumlog.checker.history import Operation, Outcome, Send
from quorumlog.wire.errors import ErrorCode
from quorumlog.wire.records import Compression, iterate_records
from tests.sim.invariants.sight import Violation

from .broker import NOBODY, FakePartition, Scene, run
from .processes import Slots
from .producer import IN_FLIGHT_MAX, LEADER, Producer

DELIVERY_TIMEOUT_S = 5.0


def make(scene: Scene, **settings: Any) -> Producer:
    settings = {"delivery_timeout_s": DELIVERY_TIMEOUT_S} | settings
    return Producer(scene.client(), Slots(scene.processes), scene.history.append, **settings)


def stored(partition: FakePartition) -> list[str]:
    return [
        (record.value or b"").decode()
        for header, data in partition.batches
        for record in iterate_records(data, header, decompressed_bytes_max=1 << 20)
    ]


def values(numbers: Sequence[int]) -> list[str]:
    return [f"v{number}" for number in numbers]


def outcomes(history: list[Operation]) -> dict[str, Outcome]:
    return {step.value: operation.outcome for operation in history for step in operation.steps if isinstance(step, Send)}


@pytest.mark.parametrize("compression", [Compression.NONE, Compression.ZSTD])
def test_sends_are_stored_in_order_and_written_down_with_their_offsets(compression: Compression) -> None:
    """Several at a time, but no more than brokers remember; each process does one thing at a time."""

    async def main(scene: Scene) -> None:
        (partition,) = scene.cluster.create("t").partitions
        producer = make(scene, compression=compression)
        for number in range(20):
            producer.send("t", 0, (f"v{number}", f"w{number}"), payload_bytes=10)
        assert producer.pending() == "client waits for 'v0' to t-0, sent at 0.000 s"
        await producer.flush()
        assert producer.pending() is None
        await producer.close()
        assert stored(partition) == [f"{letter}{number}" for number in range(20) for letter in "vw"]
        sends = {operation.steps for operation in scene.history}
        assert sends == {(Send("t-0", f"v{n}", 2 * n), Send("t-0", f"w{n}", 2 * n + 1)) for n in range(20)}
        assert {operation.outcome for operation in scene.history} == {Outcome.OK}
        assert 1 < scene.cluster.produced_at_once_max <= IN_FLIGHT_MAX
        assert len({operation.process for operation in scene.history}) == 20

    run(main)


def test_a_process_is_lent_again_only_when_its_operation_is_over() -> None:
    """One after the other: one process. After an unknown outcome: another."""

    async def main(scene: Scene) -> None:
        scene.cluster.create("t")
        producer = make(scene, is_idempotent=False)
        for number in range(4):
            if number == 2:
                scene.cluster.produce_errors = [(ErrorCode.request_timed_out, True)]
            producer.send("t", 0, (f"v{number}",))
            await producer.flush()
        await producer.close()
        assert [operation.process for operation in scene.history] == [0, 0, 0, 1]

    run(main)


def test_what_was_stored_without_an_answer_is_not_stored_twice() -> None:
    """The attempt after it is answered with the offset of the first."""

    async def main(scene: Scene) -> None:
        (partition,) = scene.cluster.create("t").partitions
        scene.cluster.produce_errors = [(ErrorCode.request_timed_out, True)] * 3
        producer = make(scene)
        for number in range(3):
            producer.send("t", 0, (f"v{number}",))
        await producer.flush()
        await producer.close()
        assert stored(partition) == values(range(3))
        assert [operation.steps for operation in scene.history] == [(Send("t-0", f"v{n}", n),) for n in range(3)]

    run(main)


def test_order_is_kept_when_the_first_of_several_is_refused() -> None:
    """Those behind it are out of order then, and all go again."""

    async def main(scene: Scene) -> None:
        (partition,) = scene.cluster.create("t").partitions
        producer = make(scene)
        producer.send("t", 0, ("v0",))
        await producer.flush()
        scene.cluster.produce_errors = [(ErrorCode.not_enough_replicas, False)]
        for number in range(1, 8):
            producer.send("t", 0, (f"v{number}",))
        await producer.flush()
        await producer.close()
        assert stored(partition) == values(range(8))
        assert scene.cluster.producer_ids == 1

    run(main)


@pytest.mark.parametrize("seed", range(4))
def test_a_dead_leader_is_replaced_without_loss_or_repeat(seed: int) -> None:
    """Whatever was under way goes to the new leader, in order."""

    async def main(scene: Scene) -> None:
        (partition,) = scene.cluster.create("t").partitions
        producer = make(scene)
        for number in range(40):
            producer.send("t", 0, (f"v{number}",))
            await asyncio.sleep(0.002)
            if number == 20:
                scene.cluster.kill(1, successor=2)
        await producer.flush()
        await producer.close()
        assert stored(partition) == values(range(40))
        assert set(outcomes(scene.history).values()) == {Outcome.OK}

    run(main, seed=seed)


def test_a_leader_that_moved_is_followed_by_its_hint() -> None:
    """No metadata is asked for."""

    async def main(scene: Scene) -> None:
        (partition,) = scene.cluster.create("t").partitions
        producer = make(scene)
        producer.send("t", 0, ("v0",))
        await producer.flush()
        refreshed = producer.client.refreshed
        scene.cluster.move(partition, 2)
        producer.send("t", 0, ("v1",))
        await producer.flush()
        assert producer.client.refreshed == refreshed
        await producer.close()
        assert stored(partition) == values(range(2))

    run(main)


def test_what_was_never_sent_has_certainly_failed() -> None:
    """A partition that has no leader: after the delivery timeout. What comes after it goes on with the sequence."""

    async def main(scene: Scene) -> None:
        first, second = scene.cluster.create("t", partitions=2).partitions
        second.leader = NOBODY
        producer = make(scene)
        producer.send("t", 0, ("v0",))
        producer.send("t", 1, ("lost",))
        await producer.flush()
        assert DELIVERY_TIMEOUT_S <= scene.history[-1].completed < DELIVERY_TIMEOUT_S + 1  # type: ignore[operator]
        producer.send("t", 0, ("v1",))
        await producer.flush()
        await producer.close()
        assert outcomes(scene.history) == {"v0": Outcome.OK, "lost": Outcome.FAIL, "v1": Outcome.OK}
        assert (stored(first), scene.cluster.producer_ids) == (["v0", "v1"], 1)

    run(main)


def test_what_may_be_stored_has_an_unknown_outcome_and_a_new_producer_id_follows() -> None:
    """Silence after the request was sent. What was sent behind it is not sent under another id; what waited is."""

    async def main(scene: Scene) -> None:
        (partition,) = scene.cluster.create("t").partitions
        producer = make(scene)
        producer.send("t", 0, ("v0",))
        await producer.flush()
        scene.wire.cut(1)
        for number in range(1, 10):
            producer.send("t", 0, (f"v{number}",))
        await asyncio.sleep(DELIVERY_TIMEOUT_S - 1)
        producer.send("t", 0, ("later",))
        await asyncio.sleep(3)
        scene.wire.heal()
        await producer.flush()
        await producer.close()
        found = outcomes(scene.history)
        assert {found[f"v{number}"] for number in range(1, 6)} == {Outcome.UNKNOWN}
        assert {found[f"v{number}"] for number in range(6, 10)} == {Outcome.FAIL}
        assert found["later"] is Outcome.OK
        assert scene.cluster.producer_ids == 2
        here = stored(partition)
        assert len(set(here)) == len(here)
        assert not set(here) & set(values(range(6, 10)))
        assert not scene.errors

    run(main)


def test_a_record_that_is_too_large_fails_alone() -> None:
    """The others go on, under a new producer id."""

    async def main(scene: Scene) -> None:
        (partition,) = scene.cluster.create("t").partitions
        producer = make(scene)
        producer.send("t", 0, ("v0",))
        await producer.flush()
        scene.cluster.produce_errors = [(ErrorCode.message_too_large, False)]
        for value in ("large", "v1", "v2"):
            producer.send("t", 0, (value,))
        await producer.flush()
        await producer.close()
        assert stored(partition) == values(range(3))
        assert outcomes(scene.history)["large"] is Outcome.FAIL

    run(main)


def test_without_idempotence_there_is_one_attempt() -> None:
    """Refused before storing: failed. Anything else: unknown."""

    async def main(scene: Scene) -> None:
        (partition,) = scene.cluster.create("t").partitions
        producer = make(scene, is_idempotent=False)
        scene.cluster.produce_errors = [(ErrorCode.not_enough_replicas, False), (ErrorCode.not_leader_or_follower, True)]
        for value in ("failed", "unknown", "ok"):
            producer.send("t", 0, (value,))
        await producer.flush()
        await producer.close()
        assert outcomes(scene.history) == {"failed": Outcome.FAIL, "unknown": Outcome.UNKNOWN, "ok": Outcome.OK}
        assert stored(partition) == ["unknown", "ok"]
        assert scene.cluster.producer_ids == 0

    run(main)


def test_what_the_leader_alone_acknowledged_is_no_promise() -> None:
    """Nor is what was sent to a topic that may lose it: unknown, and without an offset, which may be another's later."""

    async def main(scene: Scene) -> None:
        scene.cluster.create("t")
        leader = make(scene, is_idempotent=False, acks=LEADER)
        fleeting = make(scene, promises=lambda topic: False)
        leader.send("t", 0, ("v0",))
        fleeting.send("t", 0, ("v1",))
        for producer in (leader, fleeting):
            await producer.flush()
            await producer.close()
        assert outcomes(scene.history) == {"v0": Outcome.UNKNOWN, "v1": Outcome.UNKNOWN}
        assert {step.offset for operation in scene.history for step in operation.steps if isinstance(step, Send)} == {None}

    run(main)


def test_a_cluster_that_forgot_what_it_acknowledged_is_found_out_by_the_sequence() -> None:
    """The log is cut behind the producer's back."""

    async def main(scene: Scene) -> None:
        (partition,) = scene.cluster.create("t").partitions
        producer = make(scene)
        for number in range(3):
            producer.send("t", 0, (f"v{number}",))
        await producer.flush()
        first, second = partition.batches[:2]
        partition.lose_all()
        for header, data in (first, second):
            partition.batches.append((header, data))
            partition.producers.update(header, 0)
        producer.send("t", 0, ("v3",))
        await asyncio.sleep(1)
        assert {error.name for error in scene.errors if isinstance(error, Violation)} == {"client: sequence"}
        await producer.close()

    run(main)


def test_an_answer_that_no_sound_record_deserves_is_a_violation() -> None:
    """Such as a corrupt message."""

    async def main(scene: Scene) -> None:
        scene.cluster.create("t")
        producer = make(scene)
        scene.cluster.produce_errors = [(ErrorCode.corrupt_message, False)]
        producer.send("t", 0, ("v0",))
        await asyncio.sleep(1)
        assert {error.name for error in scene.errors if isinstance(error, Violation)} == {"client: produce"}
        await producer.close()

    run(main)
