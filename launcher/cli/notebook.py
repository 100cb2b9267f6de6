"""notebook: a run as a file that is opened by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from launcher.cli.session import Session
from launcher.cli.start import DATA, YES
from launcher.cli.verb import verb, with_session

if TYPE_CHECKING:
    from launcher.events import Event, Result

OF_A_JOB = ("params", "env", "data", "name", "out", "source")


@verb("notebook", words=True, runs=True)
@click.argument("job", required=False, metavar="[JOB]")
@click.option(
    "--for", "platform", type=click.Choice(["kaggle", "colab"]), required=True, help="Where it is opened."
)
@click.option("-o", "--output", "file", metavar="FILE", help="Instead of <id>.ipynb here.")
@click.option("--offline", is_flag=True, help="Kaggle: the environment from a dataset, not the internet.")
@click.option("--resume", metavar="RUN", help="Go on with this run, instead of a new one of JOB.")
@click.option("-p", "--param", "params", multiple=True, metavar="K=V", help="Override a parameter.")
@click.option(
    "-e", "--env", multiple=True, metavar="K[=V]", help="Set a variable; K alone copies it from here."
)
@DATA
@click.option("--name", metavar="NAME", help="Instead of the spec's name.")
@click.option("--out", metavar="DIR", help="Home folder becomes DIR/<id> instead of runs/<id>.")
@click.option("--timeout", metavar="TIME", help="Time limit of the whole run; with --resume so much more.")
@click.option("--from", "source", metavar="RUN[:CHECKPOINT]", help="Start from another run's checkpoint.")
@YES
@with_session
def notebook_command(session: Session, yes: bool, **options: Any) -> int:
    """Write JOB (default: here) as a notebook for Kaggle or Colab, to open by hand there.

    The notebook holds the run's id, the locked environment and the files, and no secrets. What it wrote there comes
    home by `launcher pull RUN --from-folder DIR`. What stands after -- goes to the job.
    """
    from launcher.cli.follow import follow

    session.yes = yes
    kept: list[Result] = []
    code = follow(session, _last(_verb(session, options), kept))
    if kept and not session.json:
        session.tell({}, lambda: str(kept[0].detail.get("notebook", "")))
    return code


def _verb(session: Session, options: dict[str, Any]) -> Iterator[Event]:
    from launcher.runner import notebook
    from launcher.runner.context import ResumeRequest, RunRequest

    wanted = notebook.Wanted(options.pop("platform"), options.pop("file"), options.pop("offline"))
    run, job, words = options.pop("resume"), options.pop("job"), options.pop("words")
    if run is None:
        request = RunRequest(job or ".", args=words, **options)
        return notebook.notebook(session.context, request, wanted)
    given = [name for name in OF_A_JOB if options[name]]
    if job or words or given:
        raise click.UsageError("--resume goes on with a run as it was recorded: no JOB and no changes to it")
    request_ = ResumeRequest(timeout=options["timeout"])
    return notebook.resumed(session.context, session.run(run), request_, wanted)


def _last(events: Iterator[Event], kept: list[Result]) -> Iterator[Event]:
    from launcher.events import Result

    for event in events:
        if isinstance(event, Result):
            kept[:] = [event]
        yield event
