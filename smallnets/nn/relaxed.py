import jax
import jax.numpy as jnp
from flax import nnx

from smallnets.nn.low_rank import LowRank
from smallnets.nn.parameter import Factory, is_variable

OWN = "own"  # metadata of a parameter: each call of a shared block has its own value of it


class Relaxed(nnx.Module):
    """A map that is shared between calls, and a low-rank difference that each call has for itself.

        y = shared(x) + x U_i V_i    in call i

    Shapes: x[..., d_in] -> y[..., d_out]; U_i[d_in, rank], V_i[rank, d_out], V_i zero at first, so
    that the start is plain sharing. ``linear`` builds the shared map. Inside a
    :class:`smallnets.nn.stack.Stack` the differences have a leading axis of length ``depth``,
    the shared map one of length ``unique``; elsewhere it is the sum of two maps.
    Parameters: linear + rank * (d_in + d_out)
    FLOPs: linear + 2 * rank * (d_in + d_out)

    Source: Bae et al. 2024, arXiv:2410.20672; V_i starts at zero as in Hu et al. 2021,
    arXiv:2106.09685, since there is no trained network whose layers it could start from. Raises
    ValueError for a rank outside 1 .. min(d_in, d_out).
    """

    def __init__(self, d_in: int, d_out: int, *, linear: Factory, rank: int, rngs: nnx.Rngs):
        self.shared = linear(d_in, d_out, rngs=rngs)
        difference = LowRank(d_in, d_out, rank=rank, rngs=rngs)
        difference.up[...] = jnp.zeros_like(difference.up[...])
        self.difference = jax.tree.map(_own, difference, is_leaf=is_variable)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.shared(x) + self.difference(x)


def is_own(leaf: object) -> bool:
    """Whether a leaf of a block is a parameter that each call has for itself."""
    return isinstance(leaf, nnx.Param) and bool(leaf.get_metadata(OWN, False))


def _own(parameter: nnx.Param) -> nnx.Param:
    return nnx.Param(parameter[...], **parameter.get_metadata(), **{OWN: True})
