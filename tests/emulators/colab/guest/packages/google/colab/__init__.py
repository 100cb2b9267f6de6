"""Stands for Colab's own package: what is left of it where no browser is attached."""
