"""Each planted bug can be planted, goes away again, and leaves a quiet cluster running; code that moved is reported."""

import inspect
import random
from dataclasses import replace
from textwrap import dedent
from uuid import UUID

import pytest

from quorumlog.metadata.controller import Controller, ControllerConfig
from quorumlog.metadata.requests import AllocateProducerIds, CreateTopics, NewTopic
from quorumlog.raft.ports import ProposeOutcome
from tests.metadata.given import image_of
from tests.partitions.trio import NODES, Trio
from tests.raft.cluster import Cluster
from tests.sim.mutants import CATALOGUE, Moved, Mutant, find
from tests.sim.mutants.judges import JUDGES
from tests.sim.mutants.mutant import digest_of, edit, function_at

each_mutant = pytest.mark.parametrize("mutant", CATALOGUE, ids=lambda mutant: mutant.name)


@each_mutant
def test_it_is_there_while_it_is_planted(mutant: Mutant) -> None:
    """Every function it names has other code inside the context, and its own again behind it."""
    functions = [function_at(one.target) for one in mutant.edits]
    healthy = [function.__code__ for function in functions]
    with mutant.planted():
        assert not [code for code, function in zip(healthy, functions, strict=True) if function.__code__ == code]
    assert [function.__code__ for function in functions] == healthy


@each_mutant
def test_a_quiet_partition_goes_on(mutant: Mutant) -> None:
    """Three replicas without faults commit a record on all: the bug is no crash at the first step."""
    with mutant.planted():
        trio = Trio(0)
        for _ in range(3):
            trio.produce(1)
        trio.heal()
    assert {trio.nodes[n].partition.log_end_offset for n in NODES} == {trio.nodes[1].partition.high_watermark}


@each_mutant
def test_a_quiet_quorum_goes_on(mutant: Mutant) -> None:
    """Three voters without faults elect one leader and commit."""
    with mutant.planted():
        cluster = Cluster().start_all()
        cluster.run(3.0)
        outcomes = cluster.propose(cluster.leaders()[0], "a")
        cluster.settle()
    assert outcomes == [ProposeOutcome.COMMITTED]
    assert [cluster.items(voter) for voter in cluster.voters] == [["a"]] * 3


@each_mutant
def test_a_quiet_controller_goes_on(mutant: Mutant) -> None:
    """A topic is made and producer ids are given."""
    uuids = random.Random(0)
    with mutant.planted():
        controller = Controller(
            image_of((1, 2, 3)), now=0.0, config=ControllerConfig(), new_uuid=lambda: UUID(int=uuids.getrandbits(128))
        )
        created = controller.decide(CreateTopics((NewTopic("orders", 2, 3),)), 0.1)
        given = controller.decide(AllocateProducerIds(node_id=1, broker_epoch=1), 0.2)
    assert created.reply.topics[0].num_partitions == 2
    assert given.reply.count > 0


def test_the_catalogue_names_each_once() -> None:
    """Names tell mutants apart, and each says what it breaks and what it needs."""
    names = [mutant.name for mutant in CATALOGUE]
    assert len(names) == len(set(names)) >= 24
    assert all(mutant.seeds > 0 for mutant in CATALOGUE)
    assert all(mutant.breaks.endswith(".") and mutant.needs.endswith(".") for mutant in CATALOGUE)
    assert {mutant.judge for mutant in CATALOGUE} <= JUDGES.keys()
    assert [find(name).name for name in names] == names


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(KeyError, match=r"there is no mutant 'nothing'; there are .*skips-the-fsync"):
        find("nothing")


class Sample:
    """What the tests plant bugs in."""

    def __init__(self) -> None:
        self.__secret = 1

    def reveal(self) -> int:
        return self.__secret + 1

    @property
    def shown(self) -> int:
        return super().__hash__() * 0 + 1

    @staticmethod
    def doubled(number: int, *, times: int = 2) -> int:
        return number * times


HERE = f"{__name__}:Sample"


def planted_in(path: str, *changes: tuple[str, str]) -> Mutant:
    target = f"{HERE}.{path}"
    digest = digest_of(dedent(inspect.getsource(function_at(target))))
    return Mutant("sample", "A rule.", "Nothing.", (edit(target, digest, *changes),), seeds=1)


@pytest.mark.parametrize(
    ("path", "change", "healthy", "broken"),
    [
        ("reveal", ("+ 1", "+ 5"), 2, 6),
        ("shown", ("* 0 + 1", "* 0 + 7"), 1, 7),
        ("doubled", ("number * times", "number + times"), 6, 5),
    ],
)
def test_methods_of_every_kind_can_be_changed(path: str, change: tuple[str, str], healthy: int, broken: int) -> None:
    """Private names, properties with super(), static methods with defaults: a caller that held the method before sees it, too."""
    sample = Sample()
    ask = {"reveal": sample.reveal, "shown": lambda: sample.shown, "doubled": lambda: sample.doubled(3)}[path]
    assert ask() == healthy
    with planted_in(path, change).planted():
        assert ask() == broken
    assert ask() == healthy


def test_code_that_changed_is_reported() -> None:
    """The digest of the whole function counts, not only the text that is replaced."""
    mutant = planted_in("reveal", ("+ 1", "+ 5"))
    moved = replace(mutant, edits=(replace(mutant.edits[0], digest="0" * 12),))
    with pytest.raises(Moved, match=rf"sample: {HERE}.reveal has changed; it is {mutant.edits[0].digest} now"), moved.planted():
        pass


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        (f"{HERE}.gone", "does not exist any more"),
        (f"{__name__}:HERE", "is no function any more"),
        (f"{__name__}:Gone.x", "'Gone'"),
    ],
)
def test_a_function_that_went_is_reported(target: str, sentence: str) -> None:
    with pytest.raises(Moved, match=sentence):
        function_at(target)


def test_text_that_is_not_there_just_once_is_reported() -> None:
    with pytest.raises(Moved, match="holds 0 times"), planted_in("reveal", ("nowhere", "")).planted():
        pass
    with pytest.raises(Moved, match="holds 2 times"), planted_in("reveal", ("self", "us")).planted():
        pass


def test_nothing_is_planted_if_one_part_cannot_be() -> None:
    """A mutant of two functions, of which the second moved, leaves the first as it is."""
    whole = planted_in("reveal", ("+ 1", "+ 5"))
    half = replace(whole, edits=(*whole.edits, edit(f"{HERE}.doubled", "0" * 12, ("*", "+"))))
    with pytest.raises(Moved), half.planted():
        pass
    assert Sample().reveal() == 2


def test_a_mutant_is_not_planted_over_another() -> None:
    mutant = planted_in("reveal", ("+ 1", "+ 5"))
    with mutant.planted(), pytest.raises(Moved, match="planted already"), mutant.planted():
        pass
    assert Sample().reveal() == 2
