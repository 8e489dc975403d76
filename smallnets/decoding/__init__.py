"""A decoder goes on from a prompt: with a cache, streamed or at once, or drafted by a small one.

The names below are public; ``continued``, ``parts``, ``rebuilt`` and ``step`` are for programs of
one's own.
"""

from smallnets.decoding.cached import continued, decoded, generate, parts, rebuilt, step, stream
from smallnets.decoding.speculation import speculate, speculated

__all__ = [
    "continued",
    "decoded",
    "generate",
    "parts",
    "rebuilt",
    "speculate",
    "speculated",
    "step",
    "stream",
]
