"""A job's data on this side: what a source holds, and the lists of contents that runs are recorded with."""
