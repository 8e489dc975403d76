"""Where examples come from: each task is a factory that gives ``data.Data`` when called.

The names below are public: saved models refer to them, so they stay.
"""

from smallnets.tasks.data import Data, Split
from smallnets.tasks.metrics import Metric
from smallnets.tasks.preparation import Preparation, Targets

__all__ = ["Data", "Metric", "Preparation", "Split", "Targets"]
