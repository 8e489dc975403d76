"""A trained model made small: passes ``(model, inputs) -> model``, pure functions.

Each is a rule for one kind of node, so that what is stacked, shared, routed or ``vmap``-ed needs no
code of its own. Sizes are given, never found from data, so that ``jax.eval_shape`` of a chain of
passes knows the file's size before anything trains. The names below are public: configs and rows
refer to them, so they stay.
"""

from smallnets.compress.factorise import low_rank, projected
from smallnets.compress.merge import merged_experts
from smallnets.compress.prune import without_experts, without_heads, without_units
from smallnets.compress.quantise import in_code, quantisation_aware
from smallnets.compress.share import tied
from smallnets.compress.watch import unwatched, watched
from smallnets.compress.zeros import with_zeros

__all__ = [
    "in_code",
    "low_rank",
    "merged_experts",
    "projected",
    "quantisation_aware",
    "tied",
    "unwatched",
    "watched",
    "with_zeros",
    "without_experts",
    "without_heads",
    "without_units",
]
