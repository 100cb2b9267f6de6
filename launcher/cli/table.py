"""What commands there are, where they live and what they do: data, so that `--help` imports no command."""

from __future__ import annotations

# group -> command -> (module in launcher.cli, one line of help)
GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "Start": {
        "demo": ("start", "Kill a small training run and resume it: the same weights, in 15 s."),
        "init": ("start", "Write a commented job.yaml for what is in a folder."),
        "check": ("start", "Reach each target and say what works and how to mend the rest."),
        "plan": ("start", "Say what would happen where; changes nothing, costs nothing."),
        "run": ("start", "Pack a job, place it, follow it; exits with the job's own code."),
    },
    "Watch": {
        "ps": ("watch", "List runs: what runs, where, since when."),
        "status": ("watch", "Say all about one run."),
        "logs": ("watch", "Show a run's log; works offline on what is home."),
        "attach": ("watch", "Go on following a run where an earlier follow stopped."),
        "pull": ("watch", "Bring a run's outputs home, verified."),
    },
    "Stop and go on": {
        "cancel": ("stop", "Ask the job to save and stop."),
        "release": ("stop", "Stop paying and clean up what a run left anywhere."),
        "resume": ("stop", "Go on from the newest checkpoint, here or elsewhere."),
        "rerun": ("stop", "Run the same bundle and spec again, as a new run."),
    },
    "Money": {
        "quota": ("money", "Say what is left of free hours and balances."),
        "cost": ("money", "Say what runs have cost."),
    },
    "More": {
        "wait": ("watch", "Wait until runs have ended."),
        "events": ("watch", "Say what happened to a run, in order."),
        "diff": ("watch", "Say what was the same in two runs and what was not."),
        "exec": ("touch", "Run a command beside a live job."),
        "ssh": ("touch", "Open a terminal beside a live job."),
        "forward": ("touch", "Make a port of a live job this machine's."),
        "tensorboard": ("tensorboard", "Show runs in one TensorBoard here, living ones as they go."),
        "notebook": ("notebook", "Write a job as a notebook to open by hand."),
        "lock": ("more", "Write the lock file of a job's requirements."),
        "target": ("target", "Add, list and remove targets."),
        "secret": ("secret", "Set, list and remove secrets."),
        "schema": ("more", "Print the JSON Schema of job.yaml."),
        "completion": ("more", "Print the completion script of a shell."),
        "version": ("more", "Print the version."),
    },
}

# what other tools call it -> ours
OTHERS = {
    "launch": "run",
    "submit": "run",
    "apply": "run",
    "up": "run",
    "stop": "cancel",
    "kill": "cancel",
    "down": "release",
    "rm": "release",
    "delete": "release",
    "queue": "ps",
    "ls": "ps",
    "list": "ps",
    "fetch": "pull",
    "download": "pull",
    "log": "logs",
    "tail": "logs",
    "follow": "attach",
    "doctor": "check",
}

NOT_YET = ("offers", "reap", "store", "watch")


def command_place(name: str) -> str | None:
    """The module of launcher.cli that holds a command, or None."""
    for commands in GROUPS.values():
        if name in commands:
            return commands[name][0]
    return None


def summary(name: str) -> str:
    """A command's one line of help; of a command within a command none."""
    return next((commands[name][1] for commands in GROUPS.values() if name in commands), "")
