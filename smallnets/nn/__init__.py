"""The maps: ``factory(d_in, d_out, *, rngs)`` builds ``x[..., d_in] -> y[..., d_out]``.

Modules are plain pytrees here (NNX's tree mode): ``jax.vmap``, ``jax.grad`` and ``jax.lax.scan``
take them directly, and no parameter is held twice.
"""

from flax import nnx

nnx.set_graph_mode(False)
