"""Real servers for the tests: a Docker Engine, and "GPU servers" with a Docker Engine of their own."""
