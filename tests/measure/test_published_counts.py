"""Parameter counts that others published, from our modules, without allocating memory."""

from functools import partial

import jax
import pytest
from flax import nnx

from smallnets.measure import count
from smallnets.nn.convolution import ConvolutionalNetwork
from smallnets.nn.dense import Dense
from smallnets.nn.perceptron import Perceptron

NETWORKS = {
    # Greydanus & Kobak 2020 (MNIST-1D), arXiv:2011.14439, models.py of its repository
    "MNIST-1D logistic regression": (410, partial(Perceptron, (40,), 10, widths=[])),
    "MNIST-1D MLP": (15_210, partial(Perceptron, (40,), 10, widths=[100, 100])),
    "MNIST-1D CNN": (
        5_210,
        partial(ConvolutionalNetwork, (40, 1), 10, width=25, sizes=[5, 3, 3], stride=2, padding=1),
    ),
    # LeCun et al. 1998; "267K" in Han et al. 2015, arXiv:1506.02626, table 1
    "LeNet-300-100": (266_610, partial(Perceptron, (28, 28), 10, widths=[300, 100])),
}


@pytest.mark.parametrize(("published", "network"), NETWORKS.values(), ids=NETWORKS)
def test_published_counts(published, network):
    model = jax.eval_shape(
        lambda key: network(linear=Dense, rngs=nnx.Rngs(params=key)), jax.random.key(0)
    )
    found = count.parameters(model)
    assert (found.stored, found.unique, found.active) == (published,) * 3
