"""What becomes of an instance: it is ordered, boots, runs, is shut down, deleted or evicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.emulators.verda import volumes
from tests.emulators.verda.machines import Plan
from tests.emulators.verda.objects import Instance
from tests.emulators.verda.world import World

RETRY_WALL_S = 0.05
NOTED = ("validating", "provisioning")
UNPAID = ("no_capacity",)


def begin(world: World, one: Instance) -> None:
    """A new instance; it is paid for from now on."""
    world.instances[one.id] = world.live[one.id] = one
    world.gpus += one.type.gpus
    world.capacity.change(one, -1)
    world.books.start(one.id, one.type.price_per_hour(one.is_spot) * world.factor / 3600)
    world.note(one, "create", one.actor_id)
    _phase(world, one, 0)


@dataclass(frozen=True)
class Deletion:
    """What is to go with an instance; None: the OS volume into the trash, the others are detached."""

    volume_ids: Sequence[str] | None
    permanently: bool
    by: str


def delete(world: World, one: Instance, asked: Deletion) -> None:
    """As asked for."""
    chosen = [one.os_volume_id] if asked.volume_ids is None else list(asked.volume_ids)
    forever = asked.permanently and asked.volume_ids is not None
    one.generation += 1
    one.status = "deleting"
    world.note(one, "delete", asked.by)
    _let_go(world, one, kept=one.os_volume_id not in chosen)
    fates = {name: ("delete_permanently" if forever else "move_to_trash") for name in chosen if name}
    world.after(world.settings.delete_s, lambda: _gone(world, one, fates))


def evict(world: World, one: Instance, how: str = "kill", api_lag_s: float = 0.0) -> None:
    """The machine is gone without a word, or hangs; the API says so later, and never says that it will."""
    if one.over or one.status == "deleting":
        return
    one.generation += 1
    one.evicted = True
    kept = volumes.policy(world, one.os_volume_id) == "keep_detached"
    if how == "freeze":
        one.machine.freeze()
    else:
        _let_go(world, one, kept)

    def discontinue() -> None:
        if one.over or one.status == "deleting":
            return  # its owner was faster
        if how == "freeze":
            _let_go(world, one, kept)
        world.note(one, "delete", reason="evicted_by_on_demand")
        _gone(world, one, {name: volumes.policy(world, name) for name in one.volume_ids})

    world.after(api_lag_s, discontinue)


def power_off(world: World, one: Instance, by: str | None) -> None:
    """It is billed all the same."""
    world.note(one, "shutdown", by)
    one.machine.power_off()
    _later(world, one, world.settings.power_s, ("offline", "shutdown:complete"))


def power_on(world: World, one: Instance, by: str) -> None:
    world.note(one, "start", by)
    one.machine.power_on()
    _later(world, one, world.settings.power_s, ("running", "start:complete"))
    _open_later(world, one, world.settings.power_s, script=False)


def went_off(world: World, one: Instance) -> None:
    """Someone on the machine has shut it down: the API says offline, the bill goes on."""
    if one.status == "running":
        one.status = "offline"
        world.note(one, "shutdown:complete")


def empty(world: World) -> None:
    """Nothing is left of the balance: all instances end, all volumes go to the trash."""
    for one in list(world.live.values()):
        one.generation += 1
        _let_go(world, one, kept=True)
        world.note(one, "delete", reason="insufficient_balance")
        _gone(world, one, {})
    for volume in world.volumes.values():
        if volume.deleted is None:
            volumes.to_trash(world, volume)
        world.books.stop(volume.id)


def _phase(world: World, one: Instance, number: int) -> None:
    phases = one.fate.phases or world.settings.phases
    if number == len(phases):
        if one.fate.stuck_s:
            status = one.fate.status or "error"
            return _planned(world, one, one.fate.stuck_s, lambda: _fail(world, one, status, "TIMEOUT"))
        return _arrive(world, one)
    one.status, seconds = phases[number]
    if one.status in NOTED:
        world.note(one, one.status)
    if number == len(phases) - 1:
        one.machine.order(_plan(world, one))
    return _planned(world, one, seconds, lambda: _phase(world, one, number + 1))


def _arrive(world: World, one: Instance) -> None:
    """The end of provisioning, as soon as the machine is there."""
    if one.type.gpus and world.gpus > world.settings.max_gpus:
        return _fail(world, one, "error", "GPU_QUOTA_EXCEEDED")
    if one.fate.status:
        return _fail(world, one, one.fate.status, one.fate.status.upper())
    if one.machine.problem:
        return _fail(world, one, "installation_failed", one.machine.problem)
    if not one.machine.ready:
        wait_s = RETRY_WALL_S * (world.settings.time_scale or 1.0)
        return _planned(world, one, wait_s, lambda: _arrive(world, one))
    one.status, one.running_since = "running", world.time
    world.note(one, "running")
    for name in one.volume_ids:
        world.volumes[name].status = "attached"
    if one.fate.sshd:
        _open_later(world, one, 0.0, script=not one.from_volume)
    if one.is_spot and world.settings.spot_lives_s is not None:
        _planned(world, one, world.settings.spot_lives_s, lambda: _evict_by_settings(world, one))
    return None


def _evict_by_settings(world: World, one: Instance) -> None:
    evict(world, one, world.settings.spot_ends, world.settings.spot_api_lag_s)


def _fail(world: World, one: Instance, status: str, error: str) -> None:
    """Listed and billed until someone deletes it, but for those that never were given a machine."""
    one.status = status
    action = "installation:failed" if status == "installation_failed" else "error"
    world.note(one, action, error=error)
    one.machine.destroy()
    if status in UNPAID:
        world.books.stop(one.id)


def _open_later(world: World, one: Instance, seconds: float, script: bool) -> None:
    seconds += world.settings.ssh_lag_s
    _planned(world, one, seconds, one.machine.open)
    if script and one.fate.script:
        _planned(world, one, seconds + world.settings.script_lag_s, one.machine.run_script)


def _later(world: World, one: Instance, seconds: float, end: tuple[str, str]) -> None:
    """Its status then, and the journal's word for it."""

    def arrive() -> None:
        one.status = end[0]
        world.note(one, end[1])

    _planned(world, one, seconds, arrive)


def _planned(world: World, one: Instance, seconds: float, due: object) -> None:
    """Plan something for this instance, void when it is deleted or evicted before."""
    generation = one.generation
    world.after(seconds, lambda: due() if one.generation == generation else None)  # type: ignore[operator]


def _plan(world: World, one: Instance) -> Plan:
    keys = [str(world.keys[name]["key"]) for name in one.key_ids if name in world.keys]
    script = "" if one.from_volume else str(world.scripts.get(one.script_id or "", {}).get("script", ""))
    disks = tuple(world.volumes[name].disk for name in one.volume_ids)
    images = world.settings.box_images
    return Plan(one.hostname, one.type, one.image, tuple(keys), script, one.fate, disks, images)


def _let_go(world: World, one: Instance, kept: bool) -> None:
    """The machine ends now; what was on its disk stays with a volume that is kept."""
    if not kept:
        one.machine.destroy()
        return
    one.machine.power_off()
    if one.os_volume_id in world.volumes:
        world.volumes[one.os_volume_id].disk = one.machine


def _gone(world: World, one: Instance, fates: dict[str, str]) -> None:
    """It is over; each of its volumes meets its fate, or is detached."""
    if one.over:
        return
    one.status, one.ended = "discontinued", world.time
    world.live.pop(one.id, None)
    world.gpus -= one.type.gpus
    world.ended.append(one)
    world.capacity.change(one, +1)
    world.books.stop(one.id)
    world.note(one, "delete:complete")
    for name in one.volume_ids:
        volumes.released(world, world.volumes[name], fates.get(name, "keep_detached"))
