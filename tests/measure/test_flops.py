"""FLOPs against closed forms, and against XLA's own count wherever that is right."""

from functools import partial
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from smallnets.measure import flops
from smallnets.nn.routing import attach_loss

small = st.integers(1, 12)


def array(*shape: int, dtype: str = "float32") -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def products(function, *arguments) -> float:
    return flops.count(function, *arguments).products


def xla(function, *arguments) -> float:
    """XLA's count of the compiled program: everything, elementwise too."""
    analysis = jax.jit(function).lower(*arguments).compile().cost_analysis()
    assert analysis is not None
    return analysis["flops"]


def layers(kernels, x):
    return lax.scan(lambda x, kernel: (x @ kernel, None), x, kernels)[0]


# --- products -------------------------------------------------------------------------------------


@settings(deadline=None)
@given(batch=small, m=small, k=small, n=small)
def test_a_batched_matrix_product_takes_2bmkn(batch, m, k, n):
    function = jax.vmap(jnp.matmul)
    assert products(function, array(batch, m, k), array(batch, k, n)) == 2 * batch * m * k * n


@settings(deadline=None)
@given(groups=small, m=small, k=small, n=small)
def test_a_ragged_product_takes_each_row_once_in_both_directions(groups, m, k, n):
    operands = array(m, k), array(groups, k, n), array(groups, dtype="int32")
    assert products(lax.ragged_dot, *operands) == 2 * m * k * n
    gradient = jax.grad(lambda *operands: lax.ragged_dot(*operands).sum(), (0, 1))
    assert products(gradient, *operands) == 2 * 2 * m * k * n


@settings(deadline=None)
@given(batch=small, size=st.integers(3, 12), window=st.integers(1, 3), d_in=small, d_out=small)
def test_a_convolution_without_padding_takes_its_closed_form(batch, size, window, d_in, d_out):
    def convolve(x, kernel):
        return lax.conv_general_dilated(x, kernel, (1,), "VALID", dimension_numbers=AXES_1D)

    positions = size - window + 1
    operands = array(batch, size, d_in), array(window, d_in, d_out)
    assert products(convolve, *operands) == 2 * batch * positions * window * d_in * d_out


AXES_1D = ("NWC", "WIO", "NWC")
AXES_2D = ("NHWC", "HWIO", "NHWC")
CONVOLUTIONS = {
    "valid": {"window_strides": (1, 1), "padding": "VALID"},
    "same": {"window_strides": (1, 1), "padding": "SAME"},
    "strided": {"window_strides": (2, 2), "padding": "SAME"},
    "lopsided": {"window_strides": (2, 2), "padding": ((2, 0), (0, 3))},
    "window dilated": {"window_strides": (1, 1), "padding": "SAME", "rhs_dilation": (2, 2)},
    "transposed": {"window_strides": (1, 1), "padding": ((2, 2), (2, 2)), "lhs_dilation": (2, 2)},
    "grouped": {"window_strides": (2, 1), "padding": "SAME", "feature_group_count": 2},
    "depthwise": {"window_strides": (1, 2), "padding": "VALID", "feature_group_count": 4},
}


@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_convolutions_agree_with_xla(options, direction):
    """The gradients use dilated and batch-grouped convolutions, with zeros that XLA skips."""

    def convolve(x, kernel):
        return lax.conv_general_dilated(x, kernel, dimension_numbers=AXES_2D, **options)

    function = {
        "forward": convolve,
        "backward": jax.grad(lambda x, kernel: convolve(x, kernel).sum(), (0, 1)),
    }[direction]
    features = 4 // options.get("feature_group_count", 1)
    operands = array(3, 9, 8, 4), array(3, 2, features, 8)
    assert products(function, *operands) == xla(function, *operands)


PRODUCTS = {
    "matmul": (jnp.matmul, array(5, 7), array(7, 3)),
    "einsum": (lambda a, b: jnp.einsum("bij,bkj->bik", a, b), array(4, 5, 7), array(4, 3, 7)),
    "vmapped": (jax.vmap(jnp.matmul), array(4, 5, 7), array(4, 7, 3)),
    "chain": (lambda a, b, c: a @ b @ c, array(5, 7), array(7, 3), array(3, 9)),
    "integers": (jnp.matmul, array(5, 7, dtype="int8"), array(7, 3, dtype="int8")),
    "dead code": (lambda a, b: (a @ b, b @ b)[0], array(5, 5), array(5, 5)),
}


@pytest.mark.parametrize(("function", "operands"), [(f, x) for f, *x in PRODUCTS.values()])
def test_products_agree_with_xla(function, operands):
    assert products(function, *operands) == xla(function, *operands)


# --- control flow ---------------------------------------------------------------------------------


def test_24_shared_layers_are_counted_24_times_where_xla_counts_one():
    width, depth, batch = 64, 24, 8

    def shared(kernel, x):
        return lax.scan(lambda x, _: (x @ kernel, None), x, length=depth)[0]

    def unrolled(kernel, x):
        for _ in range(depth):
            x = x @ kernel
        return x

    operands = array(width, width), array(batch, width)
    right = 2 * batch * width * width * depth
    assert products(shared, *operands) == products(unrolled, *operands) == right
    assert xla(unrolled, *operands) == right
    assert xla(shared, *operands) == pytest.approx(right / depth, rel=0.01)


@settings(deadline=None, max_examples=30)
@given(outer=small, inner=small, width=small)
def test_nested_scans_multiply(outer, inner, width):
    def twice_nested(kernel, x):
        def once(x, _):
            return lax.scan(lambda x, _: (x @ kernel, None), x, length=inner)[0], None

        return lax.scan(once, x, length=outer)[0]

    counted = products(twice_nested, array(width, width), array(1, width))
    assert counted == 2 * width * width * inner * outer


def test_the_gradient_of_a_scan_takes_two_products_more_for_each_layer():
    kernels, x = array(24, 16, 16), array(8, 16)
    forward = products(layers, kernels, x)
    step = products(jax.value_and_grad(lambda w, x: jnp.tanh(layers(w, x)).sum()), kernels, x)
    assert forward == 24 * 2 * 8 * 16 * 16
    assert step == 3 * forward


def test_recomputing_costs_one_forward_more():
    def loss(kernels, x):
        def block(x, kernel):
            return jnp.tanh(x @ kernel), None

        return lax.scan(jax.checkpoint(block), x, kernels)[0].sum()

    kernels, x = array(6, 16, 16), array(8, 16)
    assert products(jax.value_and_grad(loss), kernels, x) == 4 * products(loss, kernels, x)


@settings(deadline=None)
@given(
    start=st.integers(-20, 20),
    stop=st.integers(-20, 20),
    step=st.integers(1, 7),
    form=st.sampled_from(["up", "up to", "down", "down to", "mirrored"]),
)
def test_a_counting_while_is_counted_as_often_as_it_turns(start, stop, step, form):
    test, change = {
        "up": (lambda i: i < stop, lambda i: i + step),
        "up to": (lambda i: i <= stop, lambda i: step + i),
        "down": (lambda i: i > stop, lambda i: i - step),
        "down to": (lambda i: i >= stop, lambda i: i + -step),
        "mirrored": (lambda i: lax.gt(jnp.int32(stop), i), lambda i: i + step),
    }[form]

    def loop(x):
        return lax.while_loop(
            lambda s: test(s[0]), lambda s: (change(s[0]), s[1] @ s[1]), (start, x)
        )

    turns, i = 0, start
    while test(i):
        turns, i = turns + 1, change(i)
    assert products(loop, array(2, 2)) == turns * 2 * 2**3


def test_bounds_are_known_through_calls_and_loops():
    def inner(x, stop):
        return lax.fori_loop(0, stop, lambda _, x: x @ x, x)

    def outer(x):
        called = jax.jit(inner)(x, 5)
        return lax.scan(lambda x, _: (jax.jit(inner)(x, 3), None), called, length=2)[0]

    assert "while" in str(jax.make_jaxpr(outer)(array(2, 2)))  # no scan: the bounds are operands
    assert products(outer, array(2, 2)) == (5 + 2 * 3) * 2 * 2**3


@pytest.mark.parametrize(
    "loop",
    [
        lambda x, n: lax.fori_loop(0, n, lambda _, x: x @ x, x),
        lambda x, n: lax.while_loop(lambda x: x[0, 0] < 1, lambda x: x @ x, x),
        lambda x, n: lax.while_loop(
            lambda s: s[0] < 100, lambda s: (s[0] * 2, s[1] @ s[1]), (1, x)
        )[1],
        lambda x, n: lax.while_loop(lambda s: s[0] < 1, lambda s: (s[0] - 1, s[1] @ s[1]), (0, x))[
            1
        ],
        lambda x, n: lax.while_loop(lambda s: s[0] < 9, lambda s: (s[0] + n, s[1] @ s[1]), (0, x))[
            1
        ],
    ],
    ids=["traced bound", "test on data", "no fixed step", "endless", "traced step"],
)
def test_a_while_with_an_unknown_number_of_turns_is_refused(loop):
    with pytest.raises(ValueError, match=r"number of turns.*use lax.scan"):
        flops.count(loop, array(2, 2), array(dtype="int32"))


@pytest.mark.parametrize("order", [1, -1])
def test_a_cond_counts_its_larger_branch(order):
    branches = (lambda x: x, lambda x: x @ x)[::order]
    counted = products(lambda x, p: lax.cond(p, *branches, x), array(4, 4), array(dtype="bool"))
    assert counted == 2 * 4**3


def test_every_kind_of_call_is_entered():
    @jax.custom_vjp
    def with_vjp(x):
        return x @ x

    with_vjp.defvjp(lambda x: (x @ x, x), lambda x, g: (g @ x,))

    @jax.custom_jvp
    def with_jvp(x):
        return x @ x

    with_jvp.defjvp(lambda x, t: (x[0] @ x[0], t[0] @ x[0]))
    mesh = jax.make_mesh((1,), ("device",))
    spec = PartitionSpec()
    sharded = jax.shard_map(lambda x: x @ x, mesh=mesh, in_specs=spec, out_specs=spec)
    for call in (jax.jit(with_vjp), with_vjp, with_jvp, jax.checkpoint(with_jvp), sharded):
        assert products(call, array(4, 4)) == 2 * 4**3
    # The rule that was given is the one that counts: one product forward, one backward; and a
    # gradient alone needs no forward product here.
    assert products(jax.value_and_grad(lambda x: with_vjp(x).sum()), array(4, 4)) == 2 * 2 * 4**3
    assert products(jax.grad(lambda x: with_vjp(x).sum()), array(4, 4)) == 2 * 4**3


def test_shard_map_counts_all_devices():
    """On an abstract mesh of eight devices: each multiplies its eighth of the rows."""
    mesh = AbstractMesh((8,), ("device",), axis_types=(AxisType.Auto,))
    rows = PartitionSpec("device")
    function = jax.shard_map(
        lambda x, kernel: x @ kernel,
        mesh=mesh,
        in_specs=(rows, PartitionSpec()),
        out_specs=rows,
    )
    assert products(function, array(16, 4), array(4, 3)) == 2 * 16 * 4 * 3


def test_what_has_no_rule_is_refused_by_name():
    with pytest.raises(ValueError, match="'cholesky'"):
        flops.count(jnp.linalg.cholesky, array(4, 4))


def test_a_parameter_that_jax_renamed_is_refused_by_name():
    with (
        mock.patch.object(flops, "constants_and_carried", lambda scan: scan.params["renamed"]),
        pytest.raises(ValueError, match=r"'scan' of JAX .* has no parameter 'renamed'"),
    ):
        flops.count(layers, array(2, 4, 4), array(1, 4))


# --- what custom gradients hold -------------------------------------------------------------------


def attached(x):
    """Twice x, and a loss of one product that only a backward pass runs."""
    return attach_loss(2 * x, jnp.exp(x @ x).sum())


def test_a_loss_that_only_gradients_see_takes_nothing_in_a_forward_pass():
    x = array(10, 10)
    counted = flops.count(attached, x)
    assert (counted.products, counted.elementwise) == (0, xla(attached, x)) == (0, 100)


@pytest.mark.parametrize("call", [jax.jit, jax.checkpoint, partial(lax.composite, name="pair")])
def test_so_it_does_inside_calls(call):
    def function(x):
        return call(lambda x: (attached(x), x @ x))(x)[0]

    assert flops.count(function, array(10, 10)) == flops.Flops(products=0, elementwise=100)


def scanned(x):
    return lax.scan(lambda x, _: (attached(x), None), x, length=7)[0]


def counting(x):
    def body(s):
        return s[0] + 1, attached(s[1])

    return lax.while_loop(lambda s: s[0] < 7, body, (0, x))[1]


@pytest.mark.parametrize("loop", [scanned, counting])
def test_so_it_does_at_each_turn_of_a_loop(loop):
    assert flops.count(loop, array(10, 10)) == flops.Flops(products=0, elementwise=700)


def test_its_gradient_is_counted_as_it_runs():
    """The loss's product forward, for exp, and two backward; the doubling's gradient, no product.

    Elementwise: exp, its gradient, the doubling's, and two additions of cotangents.
    """
    x = array(10, 10)
    gradient = jax.grad(lambda x: attached(x).sum())
    counted = flops.count(gradient, x)
    assert counted == flops.Flops(products=3 * 2 * 10**3, elementwise=5 * 100)
    assert xla(gradient, x) == pytest.approx(counted.products, rel=0.1)
    in_a_loop = flops.count(jax.grad(lambda x: scanned(x).sum()), x)
    assert in_a_loop.products == 7 * counted.products


def test_a_custom_derivative_without_its_dead_code():
    @jax.custom_jvp
    def function(x, unused):
        return 2 * x, unused @ unused

    function.defjvp(lambda x, t: (function(*x), t))

    def doubled(x):
        return function(x, jnp.exp(x @ x))[0]

    assert flops.count(doubled, array(4, 4)) == flops.Flops(products=0, elementwise=16)


# --- elementwise ----------------------------------------------------------------------------------


@settings(deadline=None)
@given(rows=small, columns=small)
def test_elementwise_operations_count_one_a_number(rows, columns):
    def elementwise(function, *dtypes):
        return flops.count(function, *(array(rows, columns, dtype=d) for d in dtypes)).elementwise

    size = rows * columns
    assert elementwise(jnp.exp, "float32") == size
    assert elementwise(lambda x: 2 * x + 1, "float32") == 2 * size
    assert elementwise(lambda x: x.sum(1), "float32") == size - rows
    assert elementwise(lambda x: jnp.cumsum(x, 1), "float32") == size
    assert elementwise(lambda x: x.T.reshape(-1).astype("bfloat16"), "float32") == 0
    assert elementwise(lambda x: x + x, "int32") == 0


def test_the_gradient_of_tanh_takes_as_much_in_every_version_of_jax():
    def gradient(x, cotangent):
        return jax.vjp(jnp.tanh, x)[1](cotangent)

    assert flops.count(gradient, array(4, 4), array(4, 4)).elementwise == 5 * 4 * 4


def test_elementwise_agrees_with_xla_on_simple_arithmetic():
    def function(x, y):
        return (x * y - x / 3).sum(0) + 1

    operands = array(8, 16), array(8, 16)
    counted = flops.count(function, *operands)
    assert (counted.products, counted.elementwise) == (0, xla(function, *operands))


def test_a_sort_takes_n_log_n_and_pooling_its_window():
    assert flops.count(jnp.sort, array(3, 16)).elementwise == 3 * 16 * 4
    assert flops.count(lambda x: lax.top_k(x, 2), array(3, 16)).elementwise == 3 * 16 * 4

    def pool(x):
        return lax.reduce_window(x, -np.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    assert flops.count(pool, array(1, 8, 8, 3)).elementwise == 4 * 4 * 3 * 3


def test_ordinary_training_code_needs_no_rule_that_is_missing():
    """Attention, norms, losses, gathers, one-hot, dropout, top-k, their gradients."""

    def loss(table, tokens, key):
        x = table[tokens]
        x = jnp.where(jax.random.bernoulli(key, 0.9, x.shape), x / 0.9, 0.0)
        x = jax.nn.dot_product_attention(x, x, x, is_causal=True)
        x = jax.nn.standardize(jax.nn.gelu(x)) * jax.nn.silu(x)
        best, index = lax.top_k(x.reshape(-1, 8), 2)
        order = jnp.argsort(index[:, 0]) + jnp.searchsorted(jnp.arange(3.0), 1.0)
        spread = jnp.zeros((6, 2)).at[index[:, 0] % 6].add(best)
        x = jnp.where(x > 0, jax.nn.softmax(x), jnp.logaddexp(x, 1.0))
        clipped = jnp.clip(jnp.cumsum(x, 1), -1, 1)
        return clipped.mean() + spread.std() + best[order].var() + jnp.linalg.norm(spread)

    operands = array(10, 2, 8), array(4, 6, dtype="int32"), jax.random.key(0)
    counted = flops.count(jax.value_and_grad(loss), *operands)
    scores = 2 * 4 * 2 * 6 * 6 * 8
    assert counted.products == 3 * 2 * scores
    assert counted.elementwise > 0


# --- helpers --------------------------------------------------------------------------------------


class Map(nnx.Module):
    def __init__(self, d_in: int, d_out: int):
        self.kernel = nnx.Param(jnp.zeros((d_in, d_out)))
        self.scale = nnx.Variable(jnp.ones((d_out,), jnp.int32))  # no parameter, no gradient

    def __call__(self, x: jax.Array) -> jax.Array:
        return x @ self.kernel[...]


@settings(deadline=None, max_examples=20)
@given(batch=small, length=small, d_in=small, d_out=small)
def test_a_training_step_is_the_forward_and_the_gradient_of_the_parameters(
    batch, length, d_in, d_out
):
    model = jax.eval_shape(lambda: Map(d_in, d_out))
    x = array(batch, length, d_in)
    forward = flops.count(lambda model, x: model(x), model, x)
    step = flops.training_step(lambda model, x: jnp.square(model(x)).sum(), model, x)
    assert forward.products == 2 * batch * length * d_in * d_out
    assert step.products == 2 * forward.products  # inputs need no gradient
    assert forward.per(batch).products == 2 * length * d_in * d_out
    assert forward.per(batch * length).products == 2 * d_in * d_out


def test_per_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        flops.NONE.per(0)
