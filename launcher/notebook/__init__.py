"""A run as a notebook, and what it needs to run where there is no way in but a notebook."""
