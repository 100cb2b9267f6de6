"""Colab's secrets: without a browser at the notebook nobody can hand them out."""


class SecretNotFoundError(Exception):
    """There is no secret of this name."""


class NotebookAccessError(Exception):
    """The user has not granted the notebook access."""


class TimeoutException(Exception):
    """No browser answered."""


def get(key):
    """The secret of this name; here always TimeoutException, as in a runtime that a program has asked for."""
    raise TimeoutException(f"no answer for secret {key}: secrets come from the Colab page only")
