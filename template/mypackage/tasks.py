"""A task of one's own: a function that returns ``smallnets.tasks.Data``."""

import numpy as np

from smallnets.tasks import Data, Split


def shifts(*, seed: int, positions: int, noise: float, examples: int) -> Data:
    """Which of all circular shifts of one pattern is this, under noise?

    ``inputs[n, positions]`` are float32, ``labels[n]`` the shift, ``positions`` classes. Of the
    examples 60 % are for training, 20 % for validation, 20 % for the test. Chance is an error of
    1 - 1 / positions; the best answer is the shift that correlates most with the input.
    """
    random = np.random.default_rng(seed)
    pattern = random.normal(size=positions)
    labels = random.integers(positions, size=examples).astype(np.int32)
    places = (np.arange(positions) - labels[:, None]) % positions
    inputs = pattern[places] + noise * random.normal(size=(examples, positions))
    ends = [round(0.6 * examples), round(0.8 * examples)]
    parts = zip(np.split(inputs.astype(np.float32), ends), np.split(labels, ends), strict=True)
    return Data(*(Split(*part) for part in parts), outputs=positions)
