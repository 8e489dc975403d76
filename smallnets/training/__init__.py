"""Training as a pure function of numbers, and many trainings as one program.

The names below are public: configs and rows refer to them, so they stay.
"""

from smallnets.training.augmentation import cutout, flip, mixup, shift
from smallnets.training.mesh import Mesh
from smallnets.training.objective import (
    absolute_error,
    binary_cross_entropy,
    cross_entropy,
    huber,
    squared_error,
)
from smallnets.training.optimizer import (
    constant_schedule,
    cosine_schedule,
    gradient_transformation,
    has_fans,
    linear_schedule,
    maximal_update,
    muon_matrices,
    standard,
)
from smallnets.training.sparsity import gradually_sparse, zeros_kept
from smallnets.training.trainer import Trainer

__all__ = [
    "Mesh",
    "Trainer",
    "absolute_error",
    "binary_cross_entropy",
    "constant_schedule",
    "cosine_schedule",
    "cross_entropy",
    "cutout",
    "flip",
    "gradient_transformation",
    "gradually_sparse",
    "has_fans",
    "huber",
    "linear_schedule",
    "maximal_update",
    "mixup",
    "muon_matrices",
    "shift",
    "squared_error",
    "standard",
    "zeros_kept",
]
