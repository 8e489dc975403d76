"""Where examples come from: each task is a factory that gives ``data.Data`` when called."""
