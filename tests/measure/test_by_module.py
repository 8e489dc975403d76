"""What each part of a model costs, against closed forms and the counts of the whole."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from smallnets.measure import flops
from smallnets.measure.by_module import WITHOUT_PARAMETERS, Part, parts
from smallnets.measure.parameters import parameter_bytes, parameters
from smallnets.nn.convolution import ConvolutionalNetwork
from smallnets.nn.linear import Dense
from smallnets.nn.mixture import Mixture
from smallnets.nn.residual import ResidualNetwork
from smallnets.nn.structured import Monarch

EXAMPLES = jax.ShapeDtypeStruct((10, 40, 1), "float32")
RESIDUAL = partial(ResidualNetwork, (40, 1), 10, width=16, depth=4)
NETWORKS = {
    "dense": partial(RESIDUAL, linear=Dense),
    "shared": partial(RESIDUAL, linear=Dense, unique=1),
    "monarch": partial(RESIDUAL, linear=partial(Monarch, blocks=4)),
    "mixture": partial(RESIDUAL, linear=Dense, mixture=partial(Mixture, experts=4, top_k=2)),
    "convolutional": partial(
        ConvolutionalNetwork, (40, 1), 10, width=5, sizes=[5, 3], stride=2, padding=1, linear=Dense
    ),
}


def abstract(factory) -> nnx.Module:
    return jax.eval_shape(lambda: factory(rngs=nnx.Rngs(params=jax.random.key(0))))


@pytest.mark.parametrize("name", NETWORKS)
def test_parts_sum_to_the_whole(name):
    model = abstract(NETWORKS[name])
    found = parts(model, EXAMPLES)
    whole = sum(found.values(), start=Part())
    counted = parameters(model)
    assert whole == Part(
        stored=counted.stored,
        active=counted.active,
        bytes=parameter_bytes(model),
        products=flops.count(lambda model, x: model(x), model, EXAMPLES).products,
    )
    assert WITHOUT_PARAMETERS not in found


def test_a_shared_block_is_stored_once_and_multiplied_at_each_depth():
    found = parts(abstract(NETWORKS["shared"]), EXAMPLES)
    assert found["embedding"] == Part(640, 640, 2560, 10 * 2 * 640)
    assert found["stack.blocks.layer.up"] == Part(512, 512, 2048, 10 * 4 * 2 * 512)
    assert found["stack.blocks.norm"] == Part(16, 16, 64, 0)


def test_of_experts_the_chosen_are_active_and_the_rows_are_multiplied():
    found = parts(abstract(NETWORKS["mixture"]), EXAMPLES)
    rows = 8 * 6  # blocks of eight rows: the 20 choices of 10 tokens fill up to 6 of them
    assert found["stack.blocks.layer.expert.up"].stored == 4 * 4 * 512
    assert found["stack.blocks.layer.expert.up"].active == 4 * 2 * 512
    assert found["stack.blocks.layer.expert.up"].products == 4 * rows * 2 * 512
    assert found["stack.blocks.layer.router.score"].products == 4 * 10 * 2 * 16 * 4


class Attending(nnx.Module):
    def __init__(self, *, rngs):
        self.query = Dense(6, 6, rngs=rngs)

    def __call__(self, x):
        return jnp.einsum("td,sd->ts", self.query(x), x)


def test_products_of_activations_stand_apart():
    found = parts(abstract(Attending), jax.ShapeDtypeStruct((5, 6), "float32"))
    assert found["query"].products == 5 * 2 * 36
    assert found[WITHOUT_PARAMETERS] == Part(products=2 * 5 * 5 * 6)


class Merging(nnx.Module):
    """A product of two parameters of one part is that part's, a cast one is still its own."""

    def __init__(self, *, rngs):
        self.left, self.right = Dense(6, 3, rngs=rngs), Dense(3, 6, rngs=rngs)

    def __call__(self, x):
        left = self.left.kernel[...].astype(jnp.bfloat16).astype(jnp.float32).T
        return jnp.einsum("ti,ri->tr", x, left) @ (2 * self.right.kernel[...])


def test_what_is_made_of_parameters_alone_is_still_theirs():
    found = parts(abstract(Merging), jax.ShapeDtypeStruct((5, 6), "float32"))
    assert found["left"].products == found["right"].products == 5 * 2 * 18


class Recurrent(nnx.Module):
    """What a loop carries is no parameter, even if it starts as one."""

    def __init__(self, *, rngs):
        self.start, self.step = nnx.Param(jnp.zeros((1, 6))), Dense(6, 6, rngs=rngs)

    def __call__(self, x):
        return jax.lax.scan(lambda h, x: (self.step(h) + x, None), self.start[...], x)[0]


def test_a_learned_start_of_a_loop_owns_no_product_of_its_turns():
    found = parts(abstract(Recurrent), jax.ShapeDtypeStruct((5, 1, 6), "float32"))
    assert found["step"].products == 5 * 2 * 36
    assert found["start"] == Part(6, 6, 24, 0)
    assert WITHOUT_PARAMETERS not in found
