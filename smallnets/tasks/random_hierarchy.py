"""A language of a random grammar, whose entropy is known: what no model can predict better."""

import math

import numpy as np

from smallnets.tasks.data import Data, Split, check_whole
from smallnets.tasks.preparation import Preparation
from smallnets.tasks.room import check_room, power


def load(
    *,
    seed: int,
    symbols: int,
    rules: int,
    branches: int,
    depth: int,
    train: int,
    validation: int,
    test: int,
) -> Data:
    """Sentences of a random hierarchy model, to be predicted token by token.

    A sentence starts as one symbol, drawn evenly. On each of ``depth`` levels every symbol is
    replaced by ``branches`` symbols, by one of its ``rules`` rules, drawn evenly; so a sentence has
    branches^depth tokens. The rules are random and each level has its own. No two rules of a level
    have one right-hand side: whoever reads a whole sentence knows how it was made.

    ``inputs[n, T]`` are all tokens but the last, ``labels[n, T]`` all but the first, T =
    branches^depth - 1, ``symbols`` classes. ``train``, ``validation`` and ``test`` count sentences,
    all independent. ``seed`` sets grammar and sentences. They are drawn at load, a million tokens
    in less than a second: a cache would not pay.

    **The truth**: no model's expected loss is below :func:`bayes_loss`. Knowing nothing it is
    ln(symbols).

    Source: Cagnetta, Petrini, Tomasini, Favero & Wyart 2024, arXiv:2307.02129 (the model);
    Cagnetta & Wyart 2024, arXiv:2406.00048 (predicting its next token). Raises ValueError for a
    count below 1, fewer than 2 symbols or branches, more rules than there are right-hand sides, and
    sentences that do not fit into memory.
    """
    check_whole({"seed": seed, "validation": validation}, least=0)
    check_whole({"train": train, "test": test}, least=1)
    check_whole({"branches": branches}, least=2)
    check_whole({"depth": depth}, least=1)
    tokens_each = power(branches, depth)  # 64 bits where they are drawn, 32 where they are kept
    check_room(sentences=(train + validation + test, tokens_each, 24))
    rights = grammar(seed=seed, symbols=symbols, rules=rules, branches=branches, depth=depth)

    def split(place: int, count: int) -> Split:
        tokens = sentences(rights, count, np.random.default_rng([seed, 1, place]))
        return Split(tokens[:, :-1].copy(), tokens[:, 1:].copy())

    splits = (split(place, count) for place, count in enumerate((train, validation, test)))
    return Data(*splits, outputs=symbols, preparation=Preparation(dtype="int32"))


def grammar(*, seed: int, symbols: int, rules: int, branches: int, depth: int) -> np.ndarray:
    """The right-hand sides of all rules, ``[depth, symbols, rules, branches]``.

    Raises as :func:`load`.
    """
    check_whole({"rules": rules, "depth": depth}, least=1)
    check_whole({"symbols": symbols, "branches": branches}, least=2)
    check_room(grammar=(depth, symbols, rules, branches, 32))
    if branches * math.log2(symbols) >= 63:
        raise ValueError(
            f"symbols^branches must be below 2^63, but is {symbols}^{branches}: lower one"
        )
    if symbols * rules > symbols**branches:
        raise ValueError(
            f"rules must not exceed symbols^(branches - 1), so that no two have one right-hand "
            f"side, but are {rules} for {symbols}^{branches - 1}: lower them"
        )
    draw = np.random.default_rng([seed, 0])
    numbers = np.stack(
        [draw.choice(symbols**branches, symbols * rules, replace=False) for _ in range(depth)]
    )
    digits = numbers[..., None] // symbols ** np.arange(branches) % symbols
    return digits.reshape(depth, symbols, rules, branches).astype(np.int32)


def sentences(rights: np.ndarray, count: int, draw: np.random.Generator) -> np.ndarray:
    """``count`` sentences of the grammar ``rights``, ``[count, branches^depth]``."""
    _, symbols, rules, _ = rights.shape
    tokens = draw.integers(symbols, size=(count, 1))
    for level in rights:
        chosen = level[tokens, draw.integers(rules, size=tokens.shape)]
        tokens = chosen.reshape(count, chosen.shape[1] * chosen.shape[2])
    return tokens.astype(np.int32)


def entropy(*, symbols: int, rules: int, branches: int, depth: int) -> float:
    """Nats of a whole sentence, H = ln(symbols) + (1 + s + ... + s^(depth - 1)) ln(rules).

    s = branches. A sentence and its derivation determine each other, so its entropy is that of the
    choices: the start and a rule for each symbol that is replaced. All e^H sentences are equally
    likely; where the train split holds far more, every sentence of the test has been seen.
    """
    replaced = sum(branches**level for level in range(depth))
    return math.log(symbols) + replaced * math.log(rules)


def bayes_loss(*, seed: int, symbols: int, rules: int, branches: int, depth: int) -> float:
    """The lowest expected loss of :func:`load`, in nats per token: (H - H(first)) / (s^depth - 1).

    By the chain rule the entropies of each token given those before it add up to :func:`entropy`;
    all but the first token's are in the loss. The first token's distribution is exact too: a
    Markov chain down the left edge of the tree. Raises as :func:`load`.
    """
    rights = grammar(seed=seed, symbols=symbols, rules=rules, branches=branches, depth=depth)
    first = np.full(symbols, 1 / symbols)
    for level in rights:
        leftmost = level[..., 0].reshape(-1)
        first = np.bincount(leftmost, np.repeat(first / rules, rules), minlength=symbols)
    whole = entropy(symbols=symbols, rules=rules, branches=branches, depth=depth)
    known = -sum(p * math.log(p) for p in first.tolist() if p > 0)
    return (whole - known) / (branches**depth - 1)
