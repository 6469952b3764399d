"""A node under Python's own profiler, from SIGUSR1 until SIGUSR2 writes FILE.PID: `... profiled_node FILE run ...`.

It counts calls exactly; its times are those of a profiled node, several times those of a free one.
"""

import cProfile
import os
import runpy
import signal
import sys


def main() -> None:
    path, sys.argv[1:] = sys.argv[1], sys.argv[2:]
    profile = cProfile.Profile()

    def end(*_: object) -> None:
        profile.disable()
        profile.dump_stats(f"{path}.{os.getpid()}.part")
        os.replace(f"{path}.{os.getpid()}.part", f"{path}.{os.getpid()}")

    signal.signal(signal.SIGUSR1, lambda *_: profile.enable())
    signal.signal(signal.SIGUSR2, end)
    runpy.run_module("quorumlog.node", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
