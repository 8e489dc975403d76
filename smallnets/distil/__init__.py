"""What a student learns from a teacher, beside its objective or in its place.

Each way says what is asked of the teacher about a batch, which may be answered once for all
examples or in each step, and what the student differs from it by. The names below are public:
configs and rows refer to them, so they stay.
"""

from smallnets.distil.distillation import Distillation, Logits
from smallnets.distil.hidden import Attention, Features, Relations
from smallnets.distil.written import OnPolicy, Sequences

__all__ = [
    "Attention",
    "Distillation",
    "Features",
    "Logits",
    "OnPolicy",
    "Relations",
    "Sequences",
]
