"""A trained model as a folder that runs elsewhere, with the proof that it is the same model."""
