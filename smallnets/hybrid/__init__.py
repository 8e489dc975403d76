"""Small models before large ones: cascades of classifiers, drafts of text that are verified."""

from smallnets.hybrid.cascade import Hybrid, cascade

__all__ = ["Hybrid", "cascade"]
