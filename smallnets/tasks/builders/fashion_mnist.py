"""Fashion-MNIST (Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747) as a TFDS dataset."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from smallnets.tasks import idx


class FashionMnist(tfds.core.GeneratorBasedBuilder):
    """60,000 train and 10,000 test images, read from idx files in TFDS's manual folder."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "The manual folder holds the four files {train,t10k}-{images-idx3,labels-idx1}-ubyte.gz."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Ten classes of clothing in grey images of 28 by 28 pixels.",
            homepage="https://arxiv.org/abs/1708.07747",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(
                        shape=(28, 28, 1), dtype=np.uint8, encoding="bytes"
                    ),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        folder = Path(dl_manager.manual_dir)
        return {
            "train": self._generate_examples(*idx.read_examples(folder, "train")),
            "test": self._generate_examples(*idx.read_examples(folder, "t10k")),
        }

    def _generate_examples(
        self, images: np.ndarray, labels: np.ndarray
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield index, {"image": image[..., None], "label": int(label)}
