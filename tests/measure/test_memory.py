"""Memory of compiled programs against what their arrays must take."""

import jax
import jax.numpy as jnp
import pytest

from smallnets.measure.memory import memory


def compiled(function, *shapes, **options) -> jax.stages.Compiled:
    arguments = [jax.ShapeDtypeStruct(shape, "float32") for shape in shapes]
    return jax.jit(function, **options).lower(*arguments).compile()


def test_a_product_holds_its_operands_and_its_result():
    found = memory(compiled(jnp.matmul, (64, 128), (128, 32)))
    assert found.arguments_bytes == 4 * (64 * 128 + 128 * 32)
    assert found.results_bytes == 4 * 64 * 32
    assert found.peak_bytes == found.arguments_bytes + found.results_bytes


def test_what_lies_between_two_products_is_in_the_peak():
    found = memory(compiled(lambda x: jnp.tanh(x @ x) @ x, (256, 256)))
    assert found.temporaries_bytes >= 4 * 256 * 256
    assert found.peak_bytes >= 3 * 4 * 256 * 256


def test_a_donated_argument_is_not_held_twice():
    plain, donated = (
        memory(compiled(lambda x: x + 1, (256, 256), donate_argnums=donate)) for donate in ((), 0)
    )
    assert plain.peak_bytes - donated.peak_bytes == donated.aliased_bytes == 4 * 256 * 256


@pytest.mark.parametrize("depth", [4, 16])
def test_recomputing_saves_memory_that_grows_with_depth(depth):
    def loss(remember: bool):
        def block(x, kernel):
            return jnp.tanh(jnp.tanh(jnp.tanh(x @ kernel))), None

        scanned = block if remember else jax.checkpoint(block)
        return lambda kernels, x: jax.lax.scan(scanned, x, kernels)[0].sum()

    remembered, recomputed = (
        memory(compiled(jax.value_and_grad(loss(remember)), (depth, 64, 64), (512, 64)))
        for remember in (True, False)
    )
    saved = remembered.peak_bytes - recomputed.peak_bytes
    assert saved >= depth * 4 * 512 * 64
