"""Our TFDS builders, apart from the tasks because they import TFDS when they are imported."""
