"""Each invariant of the cluster image: silent while the promise holds, and named when it is broken."""

from typing import Any

import pytest

from .sight import Violation
from .stage import Scene, Shown, WatchedVoters, image_of, node_of


def fires(name: str, scene: Shown) -> str:
    with pytest.raises(Violation) as caught:
        scene.look()
    assert caught.value.name == name, caught.value
    return caught.value.message


def test_nodes_that_apply_the_same_log_at_their_own_pace() -> None:
    """One node is ahead, one far behind, one restarts and replays: all fine."""
    scene = Scene()
    old = scene.image()
    for _ in range(5):
        scene.decide()
        scene.show(old, 3)
        scene.look()
    scene.show(scene.image(), 3)
    scene.crash(2)
    scene.start(2)
    scene.show(old, 2)
    scene.look()
    scene.show(scene.image(), 2)
    scene.look()
    scene.finish()


def test_images_that_differ_at_one_index() -> None:
    """A node has lost a setting of a topic, as a snapshot that forgets a kind of record would."""
    scene = Scene()
    scene.unclean = True
    scene.decide()
    scene.unclean = False
    scene.show(scene.image(), 2)
    assert "topic_configs" in fires("images-agree", scene)


def test_an_image_that_goes_back() -> None:
    """A process never returns to an older image; the next process may begin with one."""
    scene = Scene()
    old = scene.image()
    scene.decide()
    scene.look()
    scene.show(old, 2)
    fires("images-go-forward", scene)


def test_a_partition_that_goes_back() -> None:
    """A replica never returns to an older partition epoch."""
    scene = Scene()
    scene.decide()
    scene.learn()
    scene.look()
    scene.partitions[2].partition_epoch -= 1
    fires("images-go-forward", scene)


@pytest.mark.parametrize(
    "changes",
    [
        {"partition_epoch": 1, "isr": (1, 2)},  # another set in the same partition epoch
        {"leader_epoch": 0},
        {"leader": 2},  # another leader in the same leader epoch
    ],
)
def test_epochs_that_do_not_rise(changes: dict[str, Any]) -> None:
    """Every change has its epoch."""
    scene = Scene()
    scene.decide(**changes)
    fires("epochs-rise", scene)


def test_two_active_controllers() -> None:
    """In one term there is one; in different terms an old one may not know yet that it was replaced."""
    scene = Shown(nodes={n: node_of(image_of(0), quorum=WatchedVoters().start(n)) for n in (1, 2)}, disks={1: None, 2: None})
    for node, term in ((1, 4), (2, 5)):
        scene.nodes[node].controller._term = term
        scene.look()
    scene.nodes[2].controller._term = 4
    assert "in term 4" in fires("one-controller-a-term", scene)
