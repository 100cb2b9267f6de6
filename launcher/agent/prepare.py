"""All that must be true before the command starts: secrets, environment, files, what it resumes from."""

import json
import os
import select
import threading
import time

from launcher.agent import data as sources
from launcher.agent import environment, fingerprint, gpus, hashing, masking, records, unpack

SECRETS_S = 120.0
GPU_S = 15.0
_MOST_DIFFERENCES = 20


class Refused(Exception):
    """The job will not be started; the text is the reason in exit.json."""


def prepare(parts):
    """Raise Refused, or return the job's variables and the folder of its secrets (or None)."""
    order, segment = parts.order, parts.segment
    secrets = _read_secrets(parts.mailbox)
    parts.hide(masking.patterns(secrets.values()))
    looked = _look_at_gpus(order)
    found = fingerprint.take(order, environment.search_path(order, os.environ))
    parts.log.say(fingerprint.headline(found))
    _check_environment(parts.log, order, found)
    _check_gpus(parts.log, found, looked)
    records.write_durably(os.path.join(segment, records.FINGERPRINT), records.canonical(found) + b"\n")
    # In a notebook the name is a link to where no results lie; there the folder is made.
    work = os.path.realpath(os.path.join(segment, records.WORK))
    unpack.unpack(os.path.join(segment, records.BUNDLE), work, order["bundle_sha256"])
    _check_resume(order, segment)
    _check_data(parts.log, order, segment)
    for name in (records.OUT, records.HOME, records.DATA):
        os.makedirs(os.path.join(segment, name), 0o755, exist_ok=True)
    variables = environment.variables(order, segment, os.environ)
    given, folder = environment.hand_over(order, secrets)
    variables.update(given)
    return variables, folder


def _read_secrets(mailbox):
    """The one line on stdin. Without it nothing starts: whoever started us may have died between the two."""
    data = b""
    give_up = time.monotonic() + SECRETS_S
    while b"\n" not in data:
        ready = select.select([0, mailbox.fd], [], [], max(0.0, give_up - time.monotonic()))[0]
        if mailbox.fd in ready:
            break  # a signal: the caller knows what it means
        if not ready:
            raise Refused("agent: no secrets came on stdin within %d s" % SECRETS_S)
        more = os.read(0, 65536)
        data += more
        if not more:
            break
    _forget_stdin()
    line = data.split(b"\n", 1)[0]
    return json.loads(line.decode("utf-8")).get("secrets", {}) if line.strip() else {}


def _forget_stdin():
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _look_at_gpus(order):
    """Begin to look, if the job wants any; a function that waits for the answer."""
    if not order["gpus"]:
        return lambda: None
    found = []
    thread = threading.Thread(target=lambda: found.append(gpus.look()), daemon=True)
    thread.start()

    def wait():
        thread.join(GPU_S)
        return found

    return wait


def _check_environment(log, order, found):
    different = fingerprint.differences(order, found)
    if different:
        log.say("the environment is not what the lock says:")
        for line in different[:_MOST_DIFFERENCES]:
            log.say("  " + line)
        if len(different) > _MOST_DIFFERENCES:
            log.say("  and %d more" % (len(different) - _MOST_DIFFERENCES))
        raise Refused("environment")


def _check_gpus(log, found, wait):
    """A job that asked for a GPU and whose torch would not see it must not train on the CPU for hours."""
    looked = wait()
    if looked is None:
        return
    if not looked:
        log.say("nvidia-smi did not answer within %d s; going on without its word" % GPU_S)
        return
    if looked[0] is not None:
        found["shown"]["gpus"] = looked[0]["gpus"]
        found["shown"]["driver"] = next((gpu["driver"] for gpu in looked[0]["gpus"]), None)
    blind = gpus.why_blind(found["portable"], looked[0])
    if blind:
        log.say(blind)
        raise Refused("environment")


def _check_data(log, order, segment):
    """What a damaged picture would do to a training nobody would ever find out."""
    try:
        sources.check(order, segment, log.say)
    except sources.BadData as error:
        log.say("%s; the next submission mends it" % error)
        raise Refused("agent: %s" % error) from error


def _check_resume(order, segment):
    """The checkpoint that came with the order is whole and nothing else."""
    if not order["resume"]:
        return
    path = os.path.join(segment, order["resume"])
    if not os.path.lexists(path):
        raise Refused("agent: the checkpoint to resume from did not arrive")
    wanted = order["resume_digest"]
    if wanted is None:
        return
    folder = os.path.join(segment, records.RESUME)
    found = {}
    for inner, kind in hashing.walk(folder):
        found[inner] = hashing.hash_file(os.path.join(folder, inner))[1] if kind == "file" else kind
    wrong = sorted(name for name in set(wanted) | set(found) if wanted.get(name) != found.get(name))
    if wrong:
        raise Refused("agent: the checkpoint to resume from is not what was sent (%s)" % wrong[0])
