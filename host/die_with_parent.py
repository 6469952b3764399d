"""Become a command that the kernel kills as soon as its parent dies: `python -I -S die_with_parent.py PARENT_PID COMMAND...`.

A separate program rather than a `preexec_fn`, because a process that has run gRPC or librdkafka must not run Python between
fork and exec. The death signal survives the exec, so the command keeps the pid and the bond. Linux only (prctl(2)).
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Bind this process to its parent, then exec the command. Exits quietly if the parent is gone already."""
    parent, command = int(arguments[0]), arguments[1:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # The parent may have died before the bond was made; then we already belong to someone else.
    if os.getppid() == parent:
        os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
