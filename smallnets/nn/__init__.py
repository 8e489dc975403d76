"""The layers and the networks of them.

A layer is built by ``factory(d_in, d_out, *, rngs)`` and is ``x[..., d_in] -> y[..., d_out]``.
Modules are plain pytrees: ``jax.vmap``, ``jax.grad`` and ``jax.lax.scan`` take them directly, and
no parameter is held twice. The names below are public: configs, rows and saved models refer to
them, so they stay.
"""

from smallnets.nn.attention import Attention, Cache
from smallnets.nn.cascade import Cascade
from smallnets.nn.convolution import (
    Convolution,
    ConvolutionalNetwork,
    DepthwiseConvolution,
    InvertedBottleneck,
    SeparableConvolution,
)
from smallnets.nn.dropout import Dropout, Dropped
from smallnets.nn.embedding import Embedding, LearnedPositions
from smallnets.nn.ensemble import Ensemble
from smallnets.nn.exits import Exit, Exits, exit_early
from smallnets.nn.feed_forward import FeedForward
from smallnets.nn.lenet import LeNet
from smallnets.nn.linear import Affine, Dense, LargerThanDense, Linear, LowRank, merge, merged
from smallnets.nn.mixture import AllExperts, Mixture, SoftMixture
from smallnets.nn.norm import LayerNorm, RMSNorm
from smallnets.nn.parameter import Buffer, Hyperparameter, Salt, Statistic, kernel, training
from smallnets.nn.perceptron import Perceptron
from smallnets.nn.pooling import MaxPool, MeanPool
from smallnets.nn.quantised import Quantised
from smallnets.nn.residual import PostNormResidual, Residual, ResidualNetwork
from smallnets.nn.residual_convolution import ResidualConvolutionalNetwork, TwoConvolutions
from smallnets.nn.routing import BiasBalanced, ExpertChoice, TopK
from smallnets.nn.sentence_encoder import PaddedBlock, SentenceEncoder
from smallnets.nn.sharing import Relaxed, SharedPart, Stack, Unrolled
from smallnets.nn.structured import (
    BlockDiagonal,
    BlockTensorTrain,
    Kronecker,
    Monarch,
    TensorTrain,
)
from smallnets.nn.transformer import Block, Transformer

__all__ = [
    "Affine",
    "AllExperts",
    "Attention",
    "BiasBalanced",
    "Block",
    "BlockDiagonal",
    "BlockTensorTrain",
    "Buffer",
    "Cache",
    "Cascade",
    "Convolution",
    "ConvolutionalNetwork",
    "Dense",
    "DepthwiseConvolution",
    "Dropout",
    "Dropped",
    "Embedding",
    "Ensemble",
    "Exit",
    "Exits",
    "ExpertChoice",
    "FeedForward",
    "Hyperparameter",
    "InvertedBottleneck",
    "Kronecker",
    "LargerThanDense",
    "LayerNorm",
    "LeNet",
    "LearnedPositions",
    "Linear",
    "LowRank",
    "MaxPool",
    "MeanPool",
    "Mixture",
    "Monarch",
    "PaddedBlock",
    "Perceptron",
    "PostNormResidual",
    "Quantised",
    "RMSNorm",
    "Relaxed",
    "Residual",
    "ResidualConvolutionalNetwork",
    "ResidualNetwork",
    "Salt",
    "SentenceEncoder",
    "SeparableConvolution",
    "SharedPart",
    "SoftMixture",
    "Stack",
    "Statistic",
    "TensorTrain",
    "TopK",
    "Transformer",
    "TwoConvolutions",
    "Unrolled",
    "exit_early",
    "kernel",
    "merge",
    "merged",
    "training",
]
