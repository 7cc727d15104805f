"""What all packages share: the shape of errors, packages that are absent, places to write to, the machine.

Imports: nothing of this project.
Begin with: `checks.py`: `refuse`, and `said` for what came.
"""

__all__ = ["checks", "extras", "machine", "notebook", "outputs", "tables"]
