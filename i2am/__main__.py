"""`python -m i2am`, the same as the command `i2am`."""

import sys

from i2am.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
