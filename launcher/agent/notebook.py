"""A segment in a notebook: the environment built, the agent started beside the kernel, its log in the cell.

What it prints, for a program that reads the cell (readable=False):

    launcher: session 4711                 first of all, on Kaggle: by this number the session can be cancelled
    launcher: …                            its own words
    {"v":1,"seq":…                         the lines of log.jsonl, byte for byte
    launcher:metrics {…}                   the lines of out/metrics.jsonl
    launcher: ended succeeded 0            state and exit code, last
"""


class NotebookError(Exception):
    """What is wrong, in one line; shown without a traceback."""

    def _render_traceback_(self):
        return ["launcher: %s" % self]


class Job:
    """The run's segment as the notebook's cells see it. Every step may be called again: what is there is adopted.

    `payload` is the folder with payload.json, or a packed payload; `inputs` are other folders where its files
    may lie. `sha256` is that of payload.json, if the caller knows it. Raises NotebookError.
    """

    def __init__(self, payload, inputs=(), sha256=None):
        raise NotImplementedError

    @property
    def folder(self):
        """The segment's folder: <segments>/<run>/<n>."""
        raise NotImplementedError

    def build(self):
        """The locked environment, from the wheelhouse if there is one; says what it does."""
        raise NotImplementedError

    def restore(self):
        """The checkpoint to go on from, and the job's data."""
        raise NotImplementedError

    def take_secrets(self, values=None):
        """`values` by name, or from where the payload says; a missing one ends the segment as refused."""
        raise NotImplementedError

    def start(self):
        """Start the agent, unless it lives or has ended; returns when it lives."""
        raise NotImplementedError

    def follow(self, readable=False, quiet=False):
        """Print what the agent writes until its end; the job's exit code. `quiet`: only a sign of life."""
        raise NotImplementedError

    def run(self, readable=False):
        """All of the above, in this order; what cannot be started leaves an exit record that says why."""
        raise NotImplementedError
