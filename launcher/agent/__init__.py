"""What travels beside every job: standard library only, Python 3.8 or newer."""
