"""Training as a pure function of numbers, and many trainings as one program.

The names below are public: configs and rows refer to them, so they stay.
"""

from smallnets.training.objective import cross_entropy
from smallnets.training.optimizer import adam, adamw, maximal_update, standard
from smallnets.training.trainer import Trainer

__all__ = ["Trainer", "adam", "adamw", "cross_entropy", "maximal_update", "standard"]
