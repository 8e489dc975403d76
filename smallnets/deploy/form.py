"""The network as it is exported: loops written out, every expert computed, no unused heads.

Converters read loops badly or not at all, and what is quantised later is not looked for inside
them; a dispatch to experts has sizes that depend on the batch. The layers say themselves what they
are written out (``unrolled`` of a stack or a mixture), so this file knows none of them by name.
"""

from typing import Any

import jax


def form(model: Any) -> Any:
    """``model`` with all in it written out that has a way to be: the same answers, to rounding.

    Shared blocks stay shared: they are the same arrays at each place. Heads for leaving early are
    left out, since the last answer is exported. Raises ValueError, one line, for a router that
    can't give its weights of all experts.
    """
    written = model.unrolled() if hasattr(model, "unrolled") else model
    if hasattr(getattr(written, "router", None), "score") and not hasattr(written.router, "gates"):
        raise ValueError(
            "a router is exported by its weights of all experts, but "
            f"{type(written.router).__name__} has no method gates: add one, x[..., T, d] -> "
            "[..., T, experts]"
        )

    def rule(node: Any) -> Any:
        return form(node) if hasattr(node, "unrolled") else node

    def apart(node: Any) -> bool:
        return node is not written and hasattr(node, "unrolled")

    written = jax.tree.map(rule, written, is_leaf=apart)
    if getattr(written, "network", None) is not None and hasattr(written.network, "exits"):
        written.network.exits = None
    return written
