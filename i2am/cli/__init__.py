"""The command line: `i2am COMMAND`, a file for each command, and the demo.

Imports: viewer, studies, evaluation, models, score, losses, data, attach, families, maps, show, language, common.
Begin with: `main.py` parses and says what failed; `evaluate.py` is a command like any other; a command imports its work when it runs.
"""

__all__ = ["main"]
