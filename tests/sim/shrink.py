"""The smallest plan that still fails."""

from collections.abc import Callable

from tests.sim.plan import Plan
from tests.sim.run import Result, run_plan


class Shrinker:
    """Leaves out faults, then parts of the workload, as long as the run fails in the same way (Zeller's ddmin, from the end)."""

    def __init__(self, plan: Plan, *, progress: Callable[[str], None] = lambda _text: None) -> None:
        self.plan = plan
        self.result: Result = run_plan(plan)
        self.runs = 1
        self._progress = progress
        if self.result.failure is None:
            raise ValueError(f"seed {plan.seed} does not fail")

    def shrink(self) -> None:
        self._leave_out(lambda plan: len(plan.faults), Plan.without_faults)
        self._leave_out(lambda plan: len(plan.workload.ops), Plan.without_operations)
        self._leave_out(lambda plan: len(plan.groups.ops) if plan.groups else 0, Plan.without_group_operations)
        self._leave_out(lambda plan: len(plan.transactions.ops) if plan.transactions else 0, Plan.without_transactions)
        self._leave_out(lambda plan: len(plan.faults), Plan.without_faults)

    def _leave_out(self, count: Callable[[Plan], int], without: Callable[[Plan, set[int]], Plan]) -> None:
        """Halves, quarters, ... single ones."""
        size = max(1, count(self.plan) // 2)
        while size:
            end = count(self.plan)
            while end > 0:
                self._try(without(self.plan, set(range(max(0, end - size), end))))
                end -= size
            size //= 2

    def _try(self, smaller: Plan) -> None:
        tried = run_plan(smaller)
        self.runs += 1
        if tried.kind == self.result.kind:
            self.plan, self.result = smaller, tried
            self._progress(f"{len(smaller.faults)} faults, {len(smaller.workload.ops)} operations after {self.runs} runs")
