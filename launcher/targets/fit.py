"""Whether a machine would do for a job, and in which form: judged from one probe, before anything is sent (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from launcher.errors import Refused
from launcher.job.gpu import fits
from launcher.job.spec import JobSpec
from launcher.job.units import show_size
from launcher.target import Finding, Need, Offer

Probe = Mapping[str, Any]
MIN_FREE_BYTES = 1 << 30
NOT_FOUND = 127  # how a container's init ends that cannot execute what it was given


def form(spec: JobSpec, probe: Probe, docker: str) -> str:
    """`docker` or `plain`, as the target's option (auto, always, never) and the engine there allow."""
    if docker == "never" or (docker == "auto" and not probe.get("docker")):
        if spec.environment.needs_docker:
            said = f": {probe['docker_error']}" if docker != "never" and probe.get("docker_error") else ""
            raise Refused(
                f"this job needs Docker (image, dockerfile or apt) and there is none{said}",
                _mended(probe, "start Docker there") + ", or remove these keys from job.yaml",
            )
        return "plain"
    if not probe.get("docker"):
        raise Refused(
            f"Docker does not answer there: {probe.get('docker_error') or 'no engine'}",
            _mended(probe, "start it") + ", or set the target's docker option to auto",
        )
    return "docker"


def offer(target: str, need: Need, probe: Probe, docker: str) -> Offer:
    """This machine as an offer, with the reason if it would not do."""
    what = describe(probe)
    notes: list[str] = []
    try:
        chosen = form(need.spec, probe, docker)
        _gpus(need, probe, chosen)
        _room(need.spec, probe)
    except Refused as e:
        return Offer(target, what, fits=False, why_not=e.message + (f"; {e.hint}" if e.hint else ""))
    if chosen == "plain" and not need.spec.environment.needs_docker:
        notes.append("without Docker: a private environment from the same lock; base is ignored")
    return Offer(target, what, form=chosen, notes=notes)


def findings(probe: Probe, docker: str) -> Iterator[Finding]:
    """What `check` says of a machine."""
    engine = probe.get("docker")
    if docker == "never":
        yield Finding("docker", True, "not used (docker: never)")
    elif engine:
        yield Finding("docker", True, f"engine {engine['version']}")
    else:
        hint = _mended(probe, "install or start Docker")
        hint += ", or go on without: the same lock makes a private environment"
        yield Finding("docker", docker != "always", probe.get("docker_error") or "no engine", hint)
    gpus = probe.get("gpus") or []
    for gpu in gpus:
        yield Finding("gpu", True, f"{gpu['name']} {gpu['memory_mb'] / 1024:.0f} GB, driver {gpu['driver']}")
    if not gpus:
        yield Finding("gpu", True, "none (jobs without resources.gpu run here)")
    elif engine and docker != "never" and not engine.get("gpu_runtime"):
        hint = "install nvidia-container-toolkit there and restart Docker"
        yield Finding("gpu in docker", False, "Docker has no NVIDIA runtime", hint)
    free = int(probe.get("disk_free_bytes") or 0)
    yield Finding(
        "disk",
        free >= MIN_FREE_BYTES,
        f"{show_size(free)} free",
        "" if free >= MIN_FREE_BYTES else "free some space",
    )


def machine(probe: Probe, hello: Probe) -> dict[str, Any]:
    """What the capsule tells of a machine; no host name, no address."""
    engine = probe.get("docker") or {}
    return {
        "system": hello.get("system"),
        "arch": hello.get("arch"),
        "cpus": hello.get("cpus"),
        "memory_bytes": hello.get("memory_bytes"),
        "kernel": probe.get("kernel"),
        "glibc": probe.get("glibc"),
        "docker": engine.get("version"),
        "gpus": list(probe.get("gpus") or []),
        "driver_cuda": probe.get("driver_cuda"),
    }


def describe(probe: Probe) -> str:
    """The machine in a few words."""
    gpus = [g["name"] for g in probe.get("gpus") or []]
    return f"{len(gpus)} x {gpus[0]}" if gpus else "no GPU"


def images_by_name(listed: Any) -> dict[str, Mapping[str, Any]]:
    """The images that an engine lists, by their tags and by their digests."""
    images = listed if isinstance(listed, list) else []
    return {
        name: image
        for image in images
        for name in (*(image.get("RepoTags") or ()), *(image.get("RepoDigests") or ()))
    }


def why_lost(seen: Mapping[str, Any]) -> str:
    """In one line, why there is neither an agent nor an exit record."""
    if not seen.get("exists"):
        return "its folder is gone"
    container = seen.get("container")
    said = str(seen.get("agent_errors") or "").strip().splitlines()
    if container:
        if container.get("exit_code") == NOT_FOUND and said and "python" in said[-1]:
            return "the job's image has no python3: the agent beside the job needs Python 3.8 or newer in it"
        memory = ", out of memory" if container.get("oom") else ""
        last = f": {said[-1]}" if said else ""
        return f"its container ended with {container.get('exit_code')}{memory} and left no exit record{last}"
    if said:
        return f"its agent died: {said[-1]}"
    engine = f"; {seen['docker_error']}" if seen.get("docker_error") else ""
    return f"its agent died and left no exit record{engine}"


def _mended(probe: Probe, otherwise: str) -> str:
    """What makes Docker answer there."""
    if "permission denied" in str(probe.get("docker_error")).lower():
        return "let this user use it (`sudo usermod -aG docker USER` there)"
    return otherwise


def _gpus(need: Need, probe: Probe, chosen: str) -> None:
    wanted = need.spec.resources
    if not wanted.gpu:
        return
    good = [g for g in probe.get("gpus") or [] if fits(wanted.gpu, g["name"], g["memory_mb"] << 20)]
    if len(good) < wanted.count:
        raise Refused(
            f"the job asks for {wanted.count} GPU(s) and there is {describe(probe)}",
            "choose another target with --on, or set resources.gpu to none",
        )
    if chosen == "docker" and not (probe.get("docker") or {}).get("gpu_runtime"):
        raise Refused(
            "Docker there has no NVIDIA runtime",
            "install nvidia-container-toolkit, or set the target's docker option to never",
        )
    if need.lock is not None:
        _driver(need, probe, good)


def _driver(need: Need, probe: Probe, gpus: list[Mapping[str, Any]]) -> None:
    from launcher.cuda import trouble

    said = trouble(need.lock, probe.get("driver_cuda"), [g.get("compute_cap") for g in gpus])
    if said:
        raise Refused(said.message, said.hint)


def _room(spec: JobSpec, probe: Probe) -> None:
    wanted = spec.resources.disk_bytes
    free = int(probe.get("disk_free_bytes") or 0)
    if wanted and free < wanted:
        raise Refused(f"the job asks for {show_size(wanted)} of disk and {show_size(free)} are free")
