"""The values of a job's secrets in a notebook: given, from the platform, from the payload, or asked for."""

import contextlib
import importlib
import json
import os

from launcher.agent import notebook_payload

SENT, KAGGLE, COLAB, FILE, ASK = "sent", "kaggle", "colab", "file", "ask"
_HOW = {
    SENT: "the program that drives this notebook did not send it",
    KAGGLE: "attach it with Add-ons > Secrets",
    COLAB: "add it with the key symbol on the left, and let this notebook use it",
    FILE: "it is not in the payload",
    ASK: "nothing was typed",
}


class Missing(Exception):
    """Secrets without a value, and what to do about it."""


def take(payload, names, given):
    """{name: value} of all `names`."""
    if given is not None:
        values, way = {name: given[name] for name in names if name in given}, SENT
    else:
        way = payload.facts["secrets"]
        values = {name: value for name, value in _found(payload, names, way) if value}
    missing = [name for name in names if name not in values]
    if missing:
        raise Missing("no value for the secret %s: %s" % (", ".join(missing), _HOW.get(way, "unknown way")))
    return values


def _found(payload, names, way):
    if not names:
        return []
    if way == FILE:
        return list(_of_file(payload).items())
    ask = {KAGGLE: _kaggle, COLAB: _colab, ASK: _typed}.get(way)
    return [] if ask is None else [(name, ask(name)) for name in names]


def _kaggle(name):
    try:
        return importlib.import_module("kaggle_secrets").UserSecretsClient().get_secret(name)
    except Exception:  # the platform's own kinds: no such secret, not attached, no answer
        return None


def _colab(name):
    try:
        return importlib.import_module("google.colab.userdata").get(name)
    except Exception:  # not there, not granted, no browser
        return _typed(name)


def _typed(name):
    import getpass

    try:
        return getpass.getpass("%s: " % name)
    except Exception:  # nobody to ask: the notebook runs by itself
        return None


def _of_file(payload):
    """Read once; then the file goes, where the place lets it."""
    if notebook_payload.SECRETS not in payload:
        return {}
    path = payload.path(notebook_payload.SECRETS)
    values = json.loads(payload.data(notebook_payload.SECRETS).decode("utf-8"))
    with contextlib.suppress(OSError):
        os.unlink(path)
    return values
