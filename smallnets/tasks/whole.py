from collections.abc import Mapping


def check_whole(options: Mapping[str, object], *, least: int) -> None:
    """Raise ValueError unless each of the named options is a whole number from ``least``."""
    for name, value in options.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(
                f"{name} must be a whole number from {least}, but is {value!r}: give one"
            )
