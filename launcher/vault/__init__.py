"""What came home, verified: the folder of a run, written by one process and trusted by everyone else."""

from launcher.vault.home import Home
from launcher.vault.index import HomeArtifact, HomeFile, digest_of

__all__ = ["Home", "HomeArtifact", "HomeFile", "digest_of"]
