"""Run a module that ends when the process does that asked for it: `python -m benchmarks.gpu.with_parent PARENT MODULE WORDS...`.

What a killed call leaves running would hold the device, and disturb the next call's times.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1  # Linux


def main() -> None:
    parent, module, *words = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(parent):  # it had ended before
            sys.exit("the call has ended")
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
