"""Everything that only a GPU can tell, in three calls that each stand alone and end inside their time.

    python -m benchmarks.gpu first --out DIR      then second, third; then land DIR

Imports: report, operator, measuring, i2am_kernels.
Begin with: `plan.py`, which groups of work each call has, in what order and for how long. `driver.py` runs each in a process of its own
(`worker.py`), goes on behind whatever ended it, and writes every row at once (`row_store.py`). `verdict.py` is the last thing printed;
`land` puts the rows where the report finds them. `planted.py` plants faults for the rehearsal (tests/benchmarks/test_gpu_rehearsal.py).
"""

import time

BEGAN = time.monotonic()  # before torch, whose import takes a good part of a minute on a cold machine
