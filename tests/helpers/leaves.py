"""The command line, and afterwards whether a process group outlives it: `python leaves.py COMMAND ...`."""

import atexit
import sys

import torch

from i2am.cli.main import main

if __name__ == "__main__":
    # what is registered first runs last
    atexit.register(lambda: print("a group is left" if torch.distributed.is_initialized() else "no group is left"))
    sys.exit(main())
