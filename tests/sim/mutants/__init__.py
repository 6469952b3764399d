"""Bugs on purpose: what the simulator must find (`python -m tests.sim.mutants`)."""

from .catalogue import CATALOGUE, find
from .mutant import Moved, Mutant

__all__ = ["CATALOGUE", "Moved", "Mutant", "find"]
