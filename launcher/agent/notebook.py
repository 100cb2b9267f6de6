"""A segment in a notebook: the environment built, the agent started beside the kernel, its log in the cell.

What it prints, for a program that reads the cell (readable=False):

    launcher: session 4711                 first of all, on Kaggle: by this number the session can be cancelled
    launcher: …                            its own words
    {"v":1,"seq":…                         the lines of log.jsonl, byte for byte
    launcher:metrics {…}                   the lines of out/metrics.jsonl
    launcher: ended succeeded 0            state and exit code, last
"""

import contextlib
import json
import os
import subprocess
import time

from launcher.agent import (
    datastore,
    ending,
    notebook_build,
    notebook_end,
    notebook_follow,
    notebook_payload,
    notebook_place,
    notebook_secrets,
    notebook_tree,
    records,
)
from launcher.agent.notebook_payload import NotebookError
from launcher.agent.segment import alive, record

START_S = 30.0
_CHOOSE = {"kaggle": "Settings > Accelerator", "colab": "Runtime > Change runtime type"}
_NO_RESULTS = (records.WORK, records.HOME, records.RESUME, records.DATA, records.SOURCES)


class Job:
    """The run's segment as the notebook's cells see it. Every step may be called again: what is there is adopted.

    `payload` is the folder with payload.json, or a packed payload; `inputs` are other folders where its files
    may lie. `sha256` is that of payload.json, if the caller knows it. Raises NotebookError.
    """

    def __init__(self, payload, inputs=(), sha256=None):
        session = notebook_place.session_id(os.environ)
        if session:
            say("session " + session)
        payload = os.path.abspath(payload)
        if os.path.isfile(payload):
            payload = notebook_payload.unpacked(payload, payload + ".files")
        self.payload = notebook_payload.Payload(payload, inputs, sha256)
        facts = self.payload.facts
        self.order = facts["order"]
        place = os.path.join(facts["run"], str(facts["segment"]))
        self.folder = os.path.join(facts["segments"], place)
        self.scratch = os.path.join(facts["root"], "scratch", place)
        self._bin = None
        self._values = None
        say("run %s, segment %d" % (facts["run"], facts["segment"]))

    def build(self):
        """The locked environment, from the wheelhouse if there is one; says what it does."""
        if self._done():
            return
        self._look_at_gpus()
        self._bin = self._try(notebook_build.build, self.payload, say)

    def restore(self):
        """The checkpoint to go on from, and the job's data."""
        if not self._done():
            self._try(self._restore)

    def take_secrets(self, values=None):
        """`values` by name, or from where the payload says; a missing one ends the segment as refused."""
        if self._done():
            return
        try:
            self._values = notebook_secrets.take(self.payload, self.order["secrets"], values)
        except notebook_secrets.Missing as error:
            self._refuse("refused: %s" % error)
            raise NotebookError(str(error)) from None

    def start(self):
        """Start the agent, unless it lives or has ended; returns when it lives."""
        if self._done():
            return
        self._try(self._start)

    def follow(self, readable=False, quiet=False):
        """Print what the agent writes until its end; the job's exit code. `quiet`: only how far it is."""
        show = notebook_follow.Quiet() if quiet else notebook_follow.Exact()
        if readable:
            show = notebook_follow.Readable()
        try:
            state, code = notebook_follow.follow(self.folder, show)
        except KeyboardInterrupt:
            say("the job goes on; run this cell again to follow it, or job.stop() to end it")
            raise
        say("ended %s %d" % (state, code))
        return code

    def stop(self, grace_s=None):
        """Ask the job to save and stop; `follow` shows how it does."""
        request = {"v": records.VERSION, "why": ending.CANCEL}
        if grace_s is not None:
            request["grace_s"] = grace_s
        os.makedirs(os.path.join(self.folder, "control"), 0o700, exist_ok=True)
        records.write_durably(os.path.join(self.folder, records.STOP), records.canonical(request))

    def pack(self, path=None):
        """The segment's results as a zip beside its folder, to be downloaded; its path."""
        path = path or os.path.join(self.payload.facts["segments"], "%s-%d.zip" % self._name())
        _told_in_one_line(notebook_tree.pack, self.folder, path, os.path.join(*map(str, self._name())))
        return path

    def run(self, readable=False):
        """All of the above, in this order; what cannot be started leaves an exit record that says why."""
        try:
            for step in (self.build, self.restore, self.take_secrets, self.start):
                step()
        except NotebookError as error:
            if record(self.folder, records.EXIT) is None:
                self._refuse("agent: %s" % error)
        return self.follow(readable)

    def _name(self):
        return self.order["run"], self.order["segment"]

    def _done(self):
        """Whether the agent lives or has ended by itself. Our own word that it could not start is taken back."""
        if alive(self.folder):
            say("the job is running already")
            return True
        if os.path.exists(os.path.join(self.folder, records.MANIFEST)):
            say("the job has ended already")
            return True
        notebook_end.take_back(self.folder)
        return False

    def _try(self, step, *arguments):
        """A step that fails ends the segment, where no program drives the cells that would try again."""
        try:
            return _told_in_one_line(step, *arguments)
        except NotebookError as error:
            if self.payload.facts["secrets"] != notebook_secrets.SENT:
                self._refuse("agent: %s" % error)
            raise

    def _look_at_gpus(self):
        """Before the minutes that the environment takes: is there what the job asks for?"""
        facts = self.payload.facts
        found, need = notebook_place.look_at_gpus(), facts.get("gpu_need")
        if found:
            say("GPU: %s" % notebook_place.named(found))
        if need and not notebook_place.gpus_do(need, found):
            has = notebook_place.named(found)
            message = "the job asks for a GPU (%s) and this session has %s; choose one: %s" % (
                facts["gpu"],
                has,
                _CHOOSE[facts["platform"]],
            )
            self._refuse("refused: " + message)
            raise NotebookError(message)

    def _restore(self):
        facts = self.payload.facts
        self._lay_out()
        resume = os.path.join(self.scratch, records.RESUME)
        if facts.get("resume") and not os.path.isdir(resume):
            say("checkpoint %s: unpacking" % os.path.basename(facts["resume"]["resume"]))
            notebook_tree.unpack_tree(self.payload, notebook_payload.CHECKPOINT, resume)
        for key, told in sorted(facts.get("data", {}).items()):
            self._bring_data(key, told)

    def _bring_data(self, key, told):
        place = os.path.join(self.scratch, records.DATA, key)
        listing = os.path.join(self.scratch, records.SOURCES, key + ".json")
        if os.path.exists(listing) and os.path.lexists(place):
            return
        if "url" in told:
            files = notebook_tree.fetch(key, told, place, say)
        else:
            files = notebook_tree.unpack_data(self.payload, told["file"], place, told["digest"])
        notebook_tree.seal(place, files)
        records.write_durably(listing, datastore.encode(files))
        say("data %s: %d file%s" % (key, len(files), "" if len(files) == 1 else "s"))

    def _lay_out(self):
        """The segment's folder holds results alone; all else lies in the scratch folder, behind links."""
        for name in (records.HOME, records.DATA, records.SOURCES):
            os.makedirs(os.path.join(self.scratch, name), 0o755, exist_ok=True)
        os.makedirs(self.folder, 0o755, exist_ok=True)
        for name in _NO_RESULTS:
            _link(os.path.join(self.scratch, name), os.path.join(self.folder, name))
        _link(self.payload.checked(notebook_payload.BUNDLE), os.path.join(self.folder, records.BUNDLE))

    def _start(self):
        if self._bin is None:
            self.build()
        self._restore()
        if self._values is None:
            self.take_secrets()
        agent = self.payload.checked(notebook_payload.AGENT)
        records.write_durably(os.path.join(self.folder, records.ORDER), records.canonical(self._full_order()))
        command = [os.path.join(self._bin, "python"), "-I", "-B", agent, "run", self.folder]
        with open(os.path.join(self.folder, records.AGENT_ERRORS), "ab") as errors:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=errors,
                stderr=errors,
                cwd=self.folder,
                env=notebook_place.job_variables(os.environ),
                start_new_session=True,
            )
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(json.dumps({"secrets": self._values}).encode("ascii") + b"\n")
        self._values = None
        self._await(process)

    def _full_order(self):
        facts = self.payload.facts
        data = {key: dict(told) for key, told in self.order.get("data", {}).items()}
        for key in data:
            with open(os.path.join(self.scratch, records.SOURCES, key + ".json"), "rb") as file:
                files = json.loads(file.read().decode("utf-8"))
            data[key] = {"digest": notebook_tree.digest_of(files), "files": len(files)}
            data[key]["size_bytes"] = sum(size for _, size, _ in files)
        session_s = facts.get("session_s")
        if session_s is not None:
            left = session_s - notebook_place.session_age_s(os.environ)
            session_s = max(1.0, left - notebook_place.margin_s(session_s, self.order["grace_s"]))
            say("session: %.1f h are left for the job" % (session_s / 3600))
        return dict(
            self.order, **facts.get("resume", {}), bin=self._bin, data=data, session_s=session_s, form="plain"
        )

    def _await(self, process):
        """Until the agent has its lock, which its first state tells."""
        give_up = time.monotonic() + START_S
        while time.monotonic() < give_up:
            state = record(self.folder, records.STATE)
            if (state and state.get("agent_pid") == process.pid) or record(self.folder, records.EXIT):
                return
            if process.poll() is not None:
                break
            time.sleep(0.01)
        raise NotebookError("the agent did not start: %s" % notebook_end.last_words(self.folder))

    def _refuse(self, reason):
        notebook_end.refuse(self.folder, self.order, reason)


def say(text):
    """One line of our own, however many the text has."""
    print("launcher: " + " ".join(text.split()), flush=True)


def _link(source, path):
    if os.path.islink(path) and os.readlink(path) == source:
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    os.symlink(source, path)


def _told_in_one_line(step, *arguments):
    """A full disk and the like are no traceback."""
    try:
        return step(*arguments)
    except OSError as error:
        where = " (%s)" % error.filename if error.filename else ""
        raise NotebookError("%s%s" % (error.strerror or error, where)) from error
