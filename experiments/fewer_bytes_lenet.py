"""LeNet-300-100 or LeNet-5 on Fashion-MNIST in 40 times fewer bytes: does it hold?

    python experiments/fewer_bytes_lenet.py [FOLDER] lenet_300_100 [WORDS]
    python experiments/fewer_bytes_lenet.py [FOLDER] lenet5 [WORDS]

The study of experiments/fewer_bytes.py, whose rules are these: large networks of five epochs, and a
margin of .3 points. The small network is the same with all widths in the same proportion, the
largest whose file is within the budget. task.source=/path/to/idx names another folder than that of
Debian's dataset-fashion-mnist; steps=844 is one epoch.
"""

import sys
from pathlib import Path

from fewer_bytes import VIEW, study

import smallnets

STEPS = 4220  # five epochs of 54,000 examples in batches of 64
WIDTHS = {  # by a size n
    "lenet_300_100": lambda n: [f"model.widths=[{3 * n},{n}]"],
    "lenet5": lambda n: [f"model.channels=[{2 * n},{5 * n}]", f"model.hidden=[{50 * n}]"],
}

if __name__ == "__main__":
    model = next((word for word in sys.argv[1:] if word in WIDTHS), "")
    if not model:
        raise SystemExit(f"name one of {', '.join(WIDTHS)}")
    others = [word for word in sys.argv[1:] if word != model]
    folders = [word for word in others if "=" not in word]
    words = ["task=fashion_mnist", *(word for word in others if "=" in word)]
    network = f"model={model}"

    def largest(size: int) -> list[str]:
        """The widths of the largest small network whose file has at most so many bytes."""
        found, n = [], 1
        while True:
            said = [network, *WIDTHS[model](n)]
            (program,) = smallnets.plan(*words, *said, VIEW).programs
            if program.costs["file_bytes"] > size:
                return found
            found, n = said, n + 1

    folder = Path(folders[0] if folders else f"multirun/fewer_bytes-{model}")
    begin = [network, f"steps={STEPS}", "optimizer.learning_rate=1e-3"]
    study(folder, begin, largest, words, margin=0.3)
