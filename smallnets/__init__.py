"""How small can the model be, and what does it really cost?"""

__version__ = "0.1.0"
