"""Any machine we can reach (this one, or one behind SSH), with Docker or with a plain private environment."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from launcher.agent import records
from launcher.config import Config, TargetConfig
from launcher.engine.run import SEGMENT_PATH, Place, account_files, container_config, container_name
from launcher.environment import OUR_IMAGES
from launcher.errors import RemoteError
from launcher.hosts.host import Host
from launcher.run import Resource, Segment, State, Status
from launcher.target import Finding, Limits, Need, Offer, Quota, Step, Submission
from launcher.targets import data as sources
from launcher.targets import fit
from launcher.targets.folder import MachineFolder
from launcher.targets.later import Later
from launcher.targets.provision import provision
from launcher.targets.ready import Ready
from launcher.targets.upload import SMALL_BYTES, Batch, put_file, put_resume


class MachineTarget:
    """The doors `local` and `ssh`. `docker` of the options is auto, always or never."""

    limits = Limits()

    def __init__(self, config: Config, target: TargetConfig, host: Host) -> None:
        self.name, self.host, self.config = target.name, host, config
        self._options = target.options
        self._probe: Mapping[str, Any] | None = None
        self._images: Mapping[str, Mapping[str, Any]] = {}
        self._warming: Later | None = None

    def check(self) -> Iterator[Finding]:
        """What works there, what does not, and how to mend it."""
        hello = self.host.steward().hello
        yield Finding("reachable", True, f"{hello['user']}@{self.host.name}, python {hello['python']}")
        yield from fit.findings(self.probe(), self._docker)
        yield sources.finding(self.host.steward())

    def offers(self, need: Need) -> list[Offer]:
        """One free offer: this machine, or why it would not do. Sends nothing."""
        return [fit.offer(self.name, need, self.probe(), self._docker)]

    def submit(self, submission: Submission) -> Iterator[Step]:
        """Environment, folder, files, start. Repeatable: what is there is adopted, a living agent above all."""
        segment = submission.segment
        yield Step(State.PROVISIONING, "connect", self.host.name)
        steward = self.host.steward()
        folder = self._folder(segment)
        if segment.handle.get("folder") and self._adopted(segment):
            yield Step(State.RUNNING, "start", "was started already", handed_over=True)
            return
        form = fit.form(submission.spec, self.probe(), self._docker)
        yield Step(
            State.PROVISIONING,
            handle={
                "folder": folder,
                "form": form,
                "agent": self._agent,
                "machine": fit.machine(self.probe(), steward.hello),
            },
            resource=Resource("folder", folder, segment.run_id[-8:]),
        )
        ready = yield from provision(self, submission, form)
        ready = replace(ready, data=(yield from sources.bring(steward, submission.data)))
        yield from self._send(submission, folder, ready)
        yield Step(State.RUNNING, "start", self.host.name, 1, 1, handed_over=True)

    def lacking(self, data: Sequence[Any]) -> Mapping[str, int]:
        """How much of each source of data would travel; an unknown download is left out."""
        return sources.lacking(self.host.steward(), data)

    def status(self, segment: Segment) -> Status:
        """One look. Lost is only said when the machine answers and has neither an agent nor an exit record."""
        seen = self._look(segment)
        if seen.get("exit"):
            end = seen["exit"]
            return Status(State(end["state"]), str(end.get("reason", "")), end.get("exit_code"))
        if seen.get("alive"):
            return Status(State.RUNNING)
        if not segment.handed_over:
            return Status(State.PENDING)
        return Status(State.LOST, fit.why_lost(seen))

    def open(self, segment: Segment) -> contextlib.AbstractContextManager[MachineFolder]:
        """The segment's folder over the live connection (made anew when it broke)."""
        folder = MachineFolder(self.host.steward(), self._folder(segment), self._container(segment))
        return contextlib.nullcontext(folder)

    def cancel(self, segment: Segment, grace_s: float) -> None:
        """Leave the agent a note; it stops the job within `grace_s`."""
        note = records.canonical({"v": records.VERSION, "grace_s": grace_s, "why": "cancel"})
        with self.open(segment) as folder:
            folder.put(records.STOP, note)

    def release(self, segment: Segment) -> Iterator[Step]:
        """Kill what lives, remove container and folder; done when neither is there."""
        steward, folder = self.host.steward(), self._folder(segment)
        nonce = segment.run_id[-8:]
        container = self._container(segment) or container_name(segment.run_id, segment.number)
        if self._look(segment).get("alive"):
            steward.call("signal", folder=folder, signal="KILL", container=self._container(segment))
        steward.call("sweep", folder=folder, run=segment.run_id, segment=segment.number)
        if segment.handle.get("form") != "plain" and self.probe().get("docker"):
            self._docker_call("DELETE", f"/containers/{container}?force=true&v=true", (204, 404))
            yield Step(segment.state, "remove", container, released=Resource("container", container, nonce))
        steward.call("remove", path=folder)
        steward.call("remove", path=folder.rpartition("/")[0], only_empty=True)
        yield Step(segment.state, "remove", folder, released=Resource("folder", folder, nonce))

    def owned(self) -> list[Resource]:
        """Every folder and container there that bears our mark."""
        found = []
        self.host.steward().call("mkdir", path="runs")
        for path, *_ in self.host.steward().call("list", path="runs", depth=2)["entries"]:
            parts = path.split("/")
            if len(parts) == 2 and parts[1].isdigit():
                found.append(Resource("folder", f"{self._root}/runs/{path}", parts[0][-8:]))
        if self.probe().get("docker"):
            query = "?all=true&filters=" + _quoted(json.dumps({"label": ["launcher.run"]}))
            for container in self._docker_call("GET", "/containers/json" + query, (200,)):
                nonce = container["Labels"].get("launcher.nonce", "")
                found.append(Resource("container", container["Names"][0].lstrip("/"), nonce))
        return found

    def quota(self) -> list[Quota]:
        return []

    def warm(self) -> None:
        """Connect and ask while the caller packs; what goes wrong is raised where the answer is needed."""
        if self._probe is None and self._warming is None:
            self._warming = Later(self._ask)

    def probe(self) -> Mapping[str, Any]:
        """What the machine has, its images too (one round trip, asked once a command)."""
        if self._probe is None:
            warming, self._warming = self._warming, None
            self._probe, *more = warming.result() if warming else self._ask()
            self._images = fit.images_by_name(more[0].get("body")) if more else {}
        return self._probe

    def _ask(self) -> list[Mapping[str, Any]]:
        images = {"op": "docker", "method": "GET", "path": "/images/json", "optional": True}
        steps = [{"op": "probe"}, images] if self._docker != "never" else [{"op": "probe"}]
        return list(self.host.steward().call("batch", steps=steps)["results"])

    def beside_job(self, segment: Segment, argv: Sequence[str], terminal: bool = False) -> list[str]:
        """The words that run `argv` where the job runs."""
        container = self._container(segment)
        if container:
            flags = "-it" if terminal else "-i"
            return ["docker", "exec", flags, "-w", f"{SEGMENT_PATH}/{records.WORK}", container, *argv]
        paths = str(segment.handle.get("bin") or "")
        work = f"{self._folder(segment)}/{records.WORK}"
        script = 'cd "$1" && shift && PATH="$1:$PATH" && shift && exec "$@"'
        return ["sh", "-c", script, "sh", work, paths, *argv]

    def here(self) -> MachineTarget:
        """The machine that we are on, as a target: for what is made here and sent."""
        from launcher.hosts.local import LocalHost

        return MachineTarget(self.config, TargetConfig("local", "local"), LocalHost())

    @property
    def arch(self) -> str:
        """The machine's architecture, as uname says it."""
        return str(self.host.steward().hello["arch"])

    def image(self, name: str) -> Mapping[str, Any] | None:
        """What the engine there says of an image that it has; our own are all known from the probe."""
        self.probe()
        if name in self._images or name.startswith(OUR_IMAGES):
            return self._images.get(name)
        found = self._docker_call("GET", f"/images/{_quoted(name)}/json", (200, 404))
        return found if isinstance(found, dict) and "Id" in found else None

    def dial_docker(self) -> Any:
        """A connection to the engine there."""
        return self.host.dial(self.probe()["docker"]["socket"])

    def may_go_plain(self, submission: Submission) -> bool:
        """Whether a base that cannot be pulled is no obstacle: `docker: auto`, and nothing needs the image."""
        return (
            self._docker == "auto"
            and submission.image != "ship"
            and not submission.spec.environment.needs_docker
        )

    def address_of(self, segment: Segment) -> str:
        """Where the job's ports are, seen from the machine."""
        container = self._container(segment)
        if not container:
            return "127.0.0.1"
        found = self._docker_call("GET", f"/containers/{container}/json", (200,))
        networks = found["NetworkSettings"]["Networks"].values()
        addresses = [n["IPAddress"] for n in networks if n.get("IPAddress")]
        return str(addresses[0]) if addresses else "127.0.0.1"

    @property
    def _docker(self) -> str:
        return str(self._options.get("docker", "auto"))

    @property
    def _root(self) -> str:
        return str(self.host.steward().hello["root"])

    @property
    def _agent(self) -> str:
        """The digest of the agent that runs beside the job."""
        return self.host.agent_path().rpartition("/")[2].partition(".")[0]

    def _folder(self, segment: Segment) -> str:
        known = segment.handle.get("folder")
        return str(known) if known else f"{self._root}/runs/{segment.run_id}/{segment.number}"

    def _container(self, segment: Segment) -> str | None:
        name = segment.handle.get("container")
        return str(name) if name else None

    def _look(self, segment: Segment) -> Mapping[str, Any]:
        return self.host.steward().call(
            "look", folder=self._folder(segment), container=self._container(segment)
        )

    def _adopted(self, segment: Segment) -> bool:
        seen = self._look(segment)
        return bool(seen.get("alive") or seen.get("exit"))

    def _send(self, submission: Submission, folder: str, ready: Ready) -> Iterator[Step]:
        """What is large, each alone and resumable; then the rest and the start in one request."""
        steward, segment = self.host.steward(), submission.segment
        bundle, small = submission.bundle, Batch()
        stored = f"bundles/{bundle.digest}.tar"
        small.add("mkdir", path=folder)
        if bundle.size_bytes > SMALL_BYTES:
            yield from put_file(steward, bundle.path, stored, bundle.digest, "upload bundle")
        else:
            small.put(stored, bundle.path.read_bytes())
        names: dict[str, Any] = {"from": stored, "to": f"{folder}/{records.BUNDLE}"}
        small.add("link", **names)
        resume = yield from put_resume(steward, submission, folder)
        docker = ready.image is not None
        if ready.data.told:
            small.add("data_use", folder=folder, sources=ready.data.digests, links=not docker)
        order = {**submission.order, **ready.order, **resume, **ready.data.order(docker)}
        small.put(f"{folder}/{records.ORDER}", records.canonical(order))
        known = {"data": ready.data.told, **ready.handle}
        if not docker:
            yield Step(State.SYNCING, "start", handle={"bin": ready.order["bin"], **known})
            self._add_launch(small, submission, folder, ready)
        else:
            name = container_name(segment.run_id, segment.number)
            resource = Resource("container", name, segment.run_id[-8:])
            handle = {"container": name, **known}
            yield Step(State.SYNCING, "start", handle=handle, resource=resource)
            self._add_container(small, submission, folder, ready)
        steward.call("batch", small.payload, steps=small.steps)

    def _add_launch(self, small: Batch, submission: Submission, folder: str, ready: Ready) -> None:
        secrets = records.line({"secrets": dict(submission.secrets)})
        agent = self.host.agent_path()
        small.add("launch", secrets, folder=folder, agent=agent, form="plain", python=ready.python)

    def _add_container(self, small: Batch, submission: Submission, folder: str, ready: Ready) -> None:
        assert ready.image is not None
        for name, text in account_files(self._facts()).items():
            small.put(f"{folder}/{name}", text.encode(), mode=0o644)
        place = Place(
            segment=folder,
            agent=f"{self._root}/{self.host.agent_path()}",
            data=ready.data.mounts,
            memory_bytes=submission.spec.resources.memory_bytes,
            python=ready.python,
        )
        config = container_config(ready.image, {**submission.order, **ready.order}, place, self._facts())
        segment, secrets = submission.segment, records.line({"secrets": dict(submission.secrets)})
        name = container_name(segment.run_id, segment.number)
        small.add("launch_container", secrets, name=name, config=config)

    def _facts(self) -> Mapping[str, Any]:
        return {**self.host.steward().hello, **self.probe()}

    def _docker_call(self, method: str, path: str, good: Sequence[int]) -> Any:
        answer = self.host.steward().call("docker", method=method, path=path)
        if answer["status"] not in good:
            raise RemoteError(f"docker on {self.host.name}: {answer.get('body')!s:.300}")
        return answer.get("body")


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text)
