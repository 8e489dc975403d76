"""From rows to claims: scaling laws, their intervals, and the report. Never loads JAX."""
