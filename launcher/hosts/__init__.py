"""Machines we can reach: this one, or one behind SSH."""
