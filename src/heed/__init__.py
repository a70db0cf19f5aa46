"""heed answers one question: does instruction tuning help this small model, and if not, why?"""

__version__ = "0.1.0"
