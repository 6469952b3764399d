"""What a megabyte costs, in the brokers' processor time and in time, and how many times more it costs elsewhere."""

from collections.abc import Sequence

from tests.bench.figures import CPU_MS_MB, MB_S, TIMES, Figure
from tests.bench.load.consuming import Read
from tests.bench.load.producing import Sent
from tests.bench.meters import Meter


def cost_figures(case: str, clients: Sequence[Sent | Read], meter: Meter) -> list[Figure]:
    seconds = max(each.ended for each in clients) - min(each.started for each in clients)
    megabytes = sum(each.payload_bytes for each in clients) / 1e6
    return [
        Figure(case, "bytes", MB_S, megabytes / seconds),
        Figure(case, "brokers' processor time per MB", CPU_MS_MB, meter.cpu_s / megabytes * 1e3),
    ]


def compared(case: str, before: Sequence[Figure], after: Sequence[Figure]) -> list[Figure]:
    """1 is the same; 2 is twice the time."""
    (bytes_before, cpu_before), (bytes_after, cpu_after) = ([each.value for each in figures] for figures in (before, after))
    return [
        Figure(case, "time per MB", TIMES, bytes_before / bytes_after),
        Figure(case, "brokers' processor time per MB", TIMES, cpu_after / cpu_before),
    ]
