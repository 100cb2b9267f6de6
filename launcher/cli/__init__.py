"""The command line: small commands over the verbs of launcher.runner. Importing it imports nothing else."""
