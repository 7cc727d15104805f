"""Everything that only a GPU can tell, in three calls that each stand alone and end inside their time.

    python -m benchmarks.gpu first --out DIR      then second, third; then land DIR

`plan` says which groups of work each call has, in what order and for how long. `driver` runs each group in a process of its own
(`worker`), starts it again behind whatever ended it, and writes every row at once (`home`). `verdict` is the last thing printed.
`land` puts the rows where the report finds them. `trouble` plants faults for the rehearsal (tests/test_gpu_rehearsal.py).
"""

import time

BEGAN = time.monotonic()  # before torch, whose import takes a good part of a minute on a cold machine
