"""Small models before large ones: a cascade passes on what the small one is not sure of."""

from smallnets.hybrid.cascade import Hybrid, cascade

__all__ = ["Hybrid", "cascade"]
