"""One command that runs a fine-tuning job, identically, on any GPU you can get."""

__version__ = "0.1.0"
