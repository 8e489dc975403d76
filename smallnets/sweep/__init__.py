"""From the words of a command line to trained runs: jobs, their plan, and its execution.

Only the folder of configs is named here, so that the command's help loads nothing heavy.
"""

from pathlib import Path

_HERE = Path(__file__).parents[1]
CONF = next(path for path in (_HERE / "conf", _HERE.parent / "conf") if path.is_dir())
