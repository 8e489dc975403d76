"""What is exported is the network: written out, for any batch, shared where it was shared."""

from functools import partial

import jax
import numpy as np
import pytest
from flax import nnx
from layers import call, drawn, normal  # pyright: ignore[reportMissingImports]
from test_models import COVER, example, model_of, network

from smallnets.compress.quantise import in_code
from smallnets.deploy import proof, stablehlo
from smallnets.deploy.form import form
from smallnets.nn import Dense, ExpertChoice, Mixture, ResidualNetwork, TopK, Unrolled
from smallnets.nn.quantised import Code

QUICK = [each for each in COVER if each[2] in ("bias_balanced", "expert_choice")][:1]


def check(each: tuple) -> None:
    model = model_of(each[0], drawn(lambda rngs: network(*each)))
    x = example(each[0])
    written = form(model)
    np.testing.assert_allclose(call(written, x), proof.alone(model, x), atol=5e-5)
    signature = {"shape": x.shape[1:], "dtype": x.dtype}
    assert stablehlo.exported(written, signature, "b").in_avals[0].shape[1:] == x.shape[1:]


@pytest.mark.slow
@pytest.mark.parametrize("each", QUICK, ids=lambda each: "-".join(map(str, each)))
def test_the_form_answers_as_the_network_does_one_by_one(each: tuple):
    check(each)


@pytest.mark.slow
def test_so_it_does_for_every_pair_of_networks_layers_mixtures_and_stacks():
    for each in COVER:
        check(each)


def residual(**options) -> ResidualNetwork:
    build = partial(ResidualNetwork, (4,), 3, width=8, depth=4, linear=Dense)
    return drawn(partial(build, **options))


@pytest.mark.parametrize("unique", [1, 2, 4])
def test_shared_blocks_are_the_same_arrays(unique: int):
    model = residual(unique=unique)
    written = form(model)
    assert isinstance(written.stack, Unrolled)
    arrays = [id(leaf) for leaf in jax.tree.leaves(written.stack)]
    assert len(arrays) == 4 * len({*arrays}) // unique
    np.testing.assert_allclose(call(written, normal(3, 4)), call(model, normal(3, 4)), rtol=1e-5)


def test_relaxed_blocks_keep_their_own_differences():
    model = residual(unique=2, relaxation=1)
    np.testing.assert_allclose(
        call(form(model), normal(3, 4)), call(model, normal(3, 4)), rtol=1e-4
    )


@pytest.mark.breadth
@pytest.mark.parametrize("router", [TopK, partial(TopK, normalized=False), ExpertChoice])
def test_a_mixture_answers_alone_as_in_company(router):
    build = partial(Mixture, 6, 5, expert=Dense, experts=4, top_k=2, router=router)
    mixture, x = drawn(build), normal(7, 6)
    one_by_one = np.concatenate([call(mixture, each[None]) for each in x])
    np.testing.assert_allclose(call(form(mixture), x), one_by_one, atol=1e-5)
    if router is ExpertChoice:  # in company it answers otherwise, so that the test can fail
        assert np.abs(call(mixture, x) - one_by_one).max() > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("code", ["int8", "int4", "ternary"])
def test_weights_in_a_few_bits_are_whole_numbers_in_the_program(code: Code):
    model = in_code(residual(unique=2), code=code, group=3)
    written = form(model)
    np.testing.assert_allclose(call(written, normal(3, 4)), call(model, normal(3, 4)), rtol=1e-5)
    leaves = jax.tree.leaves(written)
    numbers = [leaf for leaf in leaves if leaf.dtype == np.int8]
    assert len({id(each) for each in numbers}) < len(numbers)  # those of shared blocks are one
    text = stablehlo.exported(written, {"shape": (4,), "dtype": "float32"}, 1).mlir_module()
    assert "xi8>" in text


def test_a_router_of_ones_own_says_what_it_lacks():
    class Mine(nnx.Module):
        def __init__(self):
            self.score = Dense(2, 2, rngs=nnx.Rngs(0))

    mixture = drawn(partial(Mixture, 2, 2, expert=Dense, experts=2, top_k=1))
    mixture.router = Mine()
    with pytest.raises(ValueError, match="Mine has no method gates"):
        form(mixture)
