"""The faults that chaos makes, by name: one class each."""

from tests.chaos.faults.damage import DamagedSegment, DamagedSnapshot, DamagedStore
from tests.chaos.faults.disks import DiskFull, PowerLoss
from tests.chaos.faults.fault import Fault, Struck
from tests.chaos.faults.links import Bridge, CutBothWays, CutOneWay, Deaf, Isolate, LeaderAlone, Mute
from tests.chaos.faults.processes import Kill, KillAll, KillBoth, KillInStart, KillTwice, Pause, Restart
from tests.chaos.faults.rolling import Move, RollingRestart, RollingUpgrade
from tests.chaos.faults.topics import Topics

__all__ = ["FAULTS", "Fault", "Struck"]

FAULTS: dict[str, type[Fault]] = {
    fault.name: fault
    for fault in (
        *(Kill, KillBoth, KillAll, KillTwice, KillInStart, Pause, Restart),
        *(RollingRestart, RollingUpgrade, Move, Topics),
        *(CutOneWay, CutBothWays, Bridge, Mute, Deaf, LeaderAlone, Isolate),
        *(DiskFull, PowerLoss),
        *(DamagedSegment, DamagedStore, DamagedSnapshot),
    )
}
