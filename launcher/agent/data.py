"""The job's data, proven before it starts: every file of every source is there, is what was sent, and nothing else."""

import os

from launcher.agent import datastore, records


class BadData(Exception):
    """Some source is not what the order says; one line."""


def check(order, segment, say):
    """Say each source's digest in the log; raise BadData for the first that is not what it should be."""
    for key, told in sorted((order.get("data") or {}).items()):
        try:
            files = datastore.load(os.path.join(segment, records.SOURCES, key + ".json"), told["digest"])
        except datastore.Damaged as error:
            raise BadData("data %s: %s" % (key, error)) from error
        wrong = datastore.differences(_place(order, segment, key), files)
        if wrong:
            raise BadData("data %s is not what was sent: %s" % (key, datastore.shown(wrong)))
        count, size = len(files), sum(entry[1] for entry in files)
        plural = "" if count == 1 else "s"
        say("data %s sha256:%s · %d file%s · %d bytes" % (key, told["digest"], count, plural, size))


def _place(order, segment, key):
    """Where the source really lies: plain, its name in the segment's folder is a link."""
    return os.path.realpath(os.path.join(order.get("data_dir") or os.path.join(segment, records.DATA), key))
