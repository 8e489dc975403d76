"""MNIST-1D (Greydanus & Kobak 2020, arXiv:2011.14439) as a TFDS dataset, made offline."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds


def generate() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Signals ``[n, 40]`` and labels ``[n]`` of the splits, as the package ``mnist1d`` makes them.

    The package seeds the global generators of ``random`` and ``numpy``: they are put back as they
    were.
    """
    from mnist1d.data import get_dataset_args, make_dataset

    states = random.getstate(), np.random.get_state()
    try:
        made = make_dataset(get_dataset_args())
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
    return {"train": (made["x"], made["y"]), "test": (made["x_test"], made["y_test"])}


class Mnist1d(tfds.core.GeneratorBasedBuilder):
    """4,000 train and 1,000 test signals of 40 positions and 1 channel, in the package's order."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Ten classes of noisy one-dimensional signals of 40 positions.",
            homepage="https://arxiv.org/abs/2011.14439",
            features=tfds.features.FeaturesDict(
                {
                    "signal": tfds.features.Tensor(
                        shape=(40, 1), dtype=np.float32, encoding="bytes"
                    ),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("signal", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {name: self._generate_examples(*split) for name, split in generate().items()}

    def _generate_examples(
        self, signals: np.ndarray, labels: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, (signal, label) in enumerate(zip(signals, labels, strict=True)):
            yield index, {"signal": signal[:, None].astype(np.float32), "label": int(label)}
