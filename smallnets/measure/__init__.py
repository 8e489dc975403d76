"""What a model costs: parameters, FLOPs, memory, latency, energy; and the sizes that meet a budget.

The name below is public: configs and rows refer to it, so it stays.
"""

from smallnets.measure.budget import Budget

__all__ = ["Budget"]
