"""The cells of a notebook, as short texts that a newcomer can read (pure)."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LINE = 100


@dataclass(frozen=True)
class Facts:
    """What the cells name: from payload.json, and the hashes of it and of the agent."""

    told: Mapping[str, Any]  # payload.json
    payload_sha256: str
    agent_sha256: str
    title: str
    does: str = ""
    packed: str = ""  # the file to upload, when the payload is not embedded
    folders: tuple[str, ...] = ()

    @property
    def run(self) -> str:
        return str(self.told["run"])

    @property
    def segment(self) -> int:
        return int(self.told["segment"])

    @property
    def on_kaggle(self) -> bool:
        return bool(self.told["platform"] == "kaggle")

    @property
    def folder(self) -> str:
        """Where the payload lies when it was unpacked."""
        return f"{self.told['root']}/payload/{self.run}-{self.segment}"

    @property
    def results(self) -> str:
        return f"{self.told['segments']}/{self.run}/{self.segment}"


def title(facts: Facts, embedded: bool) -> str:
    """What this is, what to click, where the results are, and how they come home."""
    names = facts.told["order"]["secrets"]
    clicks = (_kaggle_clicks if facts.on_kaggle else _colab_clicks)(facts, embedded)
    lines = [
        f"# {facts.title}",
        "",
        f"Run `{facts.run}`, segment {facts.segment}, made by `launcher notebook`. {facts.does}".rstrip(),
        "",
        "The cells below check the job's files, build its locked environment (its own Python, apart from"
        " this notebook's), start the job beside the notebook and show its log.",
        "",
        "**To run it**",
        "",
        *(f"{number}. {text}" for number, text in enumerate(clicks, 1)),
        "",
        *([f"Secrets: `{'`, `'.join(names)}`. {_SECRETS[facts.told['secrets']]}", ""] if names else []),
        f"**Results** are in `{facts.results}`. {_home(facts)}",
    ]
    return "\n".join(lines)


def settings(facts: Facts) -> str:
    """What is run and where things go."""
    return "\n".join(
        [
            "# Settings: what runs here, and where things go",
            f"RUN = {json.dumps(facts.run)}",
            f"ROOT = {json.dumps(facts.told['root'])}  # the environment and the job's files; no results",
            f"RESULTS = {json.dumps(facts.results)}",
            f"FILES = {json.dumps(facts.folder)}  # what the job needs",
            f"PAYLOAD = {json.dumps(facts.payload_sha256)}  # SHA-256 of payload.json, which names all other files",
            f"AGENT = {json.dumps(facts.agent_sha256)}  # SHA-256 of the program that runs the job",
        ]
    )


def embedding(packed: bytes) -> str:
    """The payload inside the notebook."""
    text = base64.b64encode(gzip.compress(packed, mtime=0)).decode()
    lines = "\n".join(text[at : at + LINE] for at in range(0, len(text), LINE))
    return (
        "# The job's files, as text\n"
        "import base64, gzip, io, os, tarfile\n\n"
        "os.makedirs(FILES, mode=0o700, exist_ok=True)\n"
        f'EMBEDDED = """\n{lines}\n"""\n'
        "packed = io.BytesIO(gzip.decompress(base64.b64decode(EMBEDDED)))\n"
        'tarfile.open(fileobj=packed).extractall(FILES, filter="data")'
    )


def attached(facts: Facts) -> str:
    """The payload in a dataset of Kaggle's: wherever it is mounted, it is known by its hash."""
    known = "".join(f"{json.dumps(folder)}, " for folder in facts.folders)
    return (
        "# The job's files, from the attached dataset\n"
        "import glob, hashlib, os, sys\n\n"
        f"places = [{known}*glob.glob('/kaggle/input/**/', recursive=True)]\n"
        "for place in places:\n"
        "    path = os.path.join(place, 'payload.json')\n"
        "    if os.path.exists(path) and hashlib.sha256(open(path, 'rb').read()).hexdigest() == PAYLOAD:\n"
        "        FILES = place\n"
        "        break\n"
        "else:\n"
        f"    sys.exit('the dataset with the files of {facts.run} is not attached: use Add Input')"
    )


def uploaded(facts: Facts) -> str:
    """The payload as one file that the user uploads to Colab."""
    path = f"/content/{facts.packed}"
    return (
        f"# The job's files, from {facts.packed}: upload it when asked, or drag it into the files on the left\n"
        "import os, sys, tarfile\n\n"
        f"path = {json.dumps(path)}\n"
        "if not os.path.exists(path):\n"
        "    from google.colab import files\n\n"
        "    files.upload()\n"
        "if not os.path.exists(path):\n"
        f"    sys.exit({json.dumps(facts.packed + ' was not uploaded')})\n"
        "os.makedirs(FILES, mode=0o700, exist_ok=True)\n"
        'tarfile.open(path).extractall(FILES, filter="data")'
    )


def load() -> str:
    """The agent, if it is the right one, and the job."""
    return (
        "# The program that runs the job, checked before it is used\n"
        "import hashlib, os, sys\n\n"
        "agent = os.path.join(FILES, 'agent.bin')\n"
        "if hashlib.sha256(open(agent, 'rb').read()).hexdigest() != AGENT:\n"
        "    sys.exit('agent.bin was changed: make the notebook again with `launcher notebook`')\n"
        "sys.path.insert(0, agent)\n"
        "from launcher.agent.notebook import Job\n\n"
        "job = Job(FILES, sha256=PAYLOAD)"
    )


BUILD = "# The environment: exactly the locked Python and packages\njob.build()"
RESTORE = "# The checkpoint to go on from, and the data\njob.restore()"
SECRETS = "# Secrets, as values that only the job gets\njob.take_secrets()"
RUN = (
    "# The job. To stop it, interrupt this cell and run job.stop()\n"
    "job.start()\n"
    "exit_code = job.follow(readable=True)"
)
ALL = "exit_code = job.run()"
DOWNLOAD = (
    "# The results as one file\n"
    "archive = job.pack()\n"
    "try:\n"
    "    from google.colab import files\n\n"
    "    files.download(archive)\n"
    "except ImportError:  # no browser to give it to\n"
    "    print(archive)"
)

_SECRETS = {
    "kaggle": "Add them under Add-ons > Secrets, with these labels.",
    "colab": "Add them with the key symbol on the left and let this notebook use them, or type them when asked.",
    "ask": "Type them when asked.",
    "file": "They come with the job's files.",
    "sent": "They are sent by launcher.",
}


def _kaggle_clicks(facts: Facts, embedded: bool) -> list[str]:
    clicks = [] if embedded else ["Add Input: attach the dataset with the job's files."]
    if facts.told["gpu"]:
        clicks.append(f"Settings > Accelerator: the job asks for {facts.told['gpu']}.")
    if not facts.told["environment"]["trivial"] and not facts.told["wheelhouse"]:
        clicks.append("Settings > Turn on internet (it needs a verified phone number).")
    return [*clicks, "Save Version > Save & Run All. It runs without this page open."]


def _colab_clicks(facts: Facts, embedded: bool) -> list[str]:
    clicks = []
    if facts.told["gpu"]:
        clicks.append(f"Runtime > Change runtime type: the job asks for {facts.told['gpu']}.")
    clicks.append("Runtime > Run all, and leave the page open.")
    return clicks if embedded else [*clicks, f"When asked, choose the file `{facts.packed}`."]


def _home(facts: Facts) -> str:
    how = "the Output of the finished version" if facts.on_kaggle else "the file that the last cell downloads"
    return (
        f"Download {how}, unpack it into a folder and type `launcher pull {facts.run} --from-folder FOLDER`."
    )
