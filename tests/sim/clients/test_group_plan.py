"""What is drawn for groups."""

import json
import random

from tests.sim.run import draw_groups_plan

from .group_plan import draw_groups, groups_from_dict


def test_a_plan_is_plain_data() -> None:
    """It goes through JSON, and loses single operations."""
    plan = draw_groups(random.Random(1), ("a", "b"), 6.0)
    assert groups_from_dict(json.loads(json.dumps(plan.as_dict()))) == plan
    assert plan.without({0}).ops == plan.ops[1:]
    assert [op.at for op in plan.ops] == sorted(op.at for op in plan.ops)


def test_drawn_groups_use_everything() -> None:
    """All protocols and operations, over some seeds; members come back, and some are there at the end."""
    plans = [draw_groups_plan(seed).groups for seed in range(60)]
    groups = [group for plan in plans if plan is not None for group in plan.groups]
    ops = [op for plan in plans if plan is not None for op in plan.ops]
    assert {group.protocol for group in groups} == {"eager", "cooperative", "consumer", "mixed", "simple"}
    assert {op.action for op in ops} == {"join", "leave", "crash", "stall", "fetch", "commit"}
    assert any(group.statics for group in groups)
    joins = sum(op.action == "join" for op in ops)
    assert joins > sum(group.members for group in groups)
    assert joins - sum(op.action in ("leave", "crash") for op in ops) > len(plans)


def test_no_place_is_taken_twice() -> None:
    """Who joins was not there, who leaves was."""
    for seed in range(60):
        plan = draw_groups_plan(seed).groups
        assert plan is not None
        present = set()
        for op in plan.ops:
            place = (op.group, op.member)
            if op.action == "join":
                assert place not in present
                present.add(place)
            elif op.action in ("leave", "crash"):
                present.remove(place)
            elif op.action == "stall":
                assert place in present
