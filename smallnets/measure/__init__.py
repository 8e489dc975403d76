"""What a model costs: parameters, FLOPs, memory, latency, energy, one module each."""
