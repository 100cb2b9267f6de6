"""The job that `run` and `plan` are asked for: its spec with the command line's overrides."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from launcher.errors import SpecError
from launcher.job import parse
from launcher.job.command import override
from launcher.job.names import env_name, job_name
from launcher.job.places import data_key, data_source
from launcher.job.spec import JobSpec, LoadedJob
from launcher.job.units import duration_s, shown
from launcher.runner.context import Context, RunRequest


def load_job(ctx: Context, request: RunRequest) -> LoadedJob:
    """The job with the command line's overrides in its spec."""
    loaded = parse.load(request.job)
    spec = loaded.spec
    spec = dataclasses.replace(
        spec,
        name=_name(request.name, spec),
        params=override(spec.params, request.params),
        env={**spec.env, **_env(ctx, request)},
        data={**spec.data, **_data(request)},
        limits=_limits(spec, request),
        resources=dataclasses.replace(spec.resources, spot=spec.resources.spot or request.spot),
    )
    return dataclasses.replace(loaded, spec=spec)


def _name(given: str | None, spec: JobSpec) -> str:
    if given is None:
        return spec.name
    try:
        return job_name(given)
    except SpecError as e:
        raise SpecError(f"--name: {e.message}", e.hint) from e


def _limits(spec: JobSpec, request: RunRequest) -> Any:
    limits = spec.limits
    if request.timeout:
        limits = dataclasses.replace(limits, time_s=duration_s(request.timeout))
    if request.max_cost is not None:
        limits = dataclasses.replace(limits, cost=cost_of(request.max_cost))
    return limits


def cost_of(text: str) -> Decimal:
    """An amount of `--max-cost`. Raises SpecError."""
    try:
        cost = Decimal(text)
    except InvalidOperation as e:
        raise SpecError(f"--max-cost {text!r} is not a number", "--max-cost 5") from e
    if not cost.is_finite() or cost < 0:
        raise SpecError(f"--max-cost {text!r} is not an amount", "--max-cost 5")
    return cost


def _data(request: RunRequest) -> Mapping[str, str]:
    given = {}
    for text in request.data:
        key, equals, source = text.partition("=")
        try:
            if not equals or not source:
                raise SpecError(f"{shown(text)} is not KEY=SOURCE", "--data train=./pictures")
            source = data_source(source)
            path = source if "://" in source else os.path.abspath(os.path.expanduser(source))
            given[data_key(key)] = path
        except SpecError as e:
            raise SpecError(f"--data: {e.message}", e.hint) from e
    return given


def _env(ctx: Context, request: RunRequest) -> Mapping[str, str]:
    given = {}
    for text in request.env:
        name, equals, value = text.partition("=")
        key = env_name(name)
        if not equals:
            found = ctx.config.variable(key)
            if found is None:
                raise SpecError(f"-e {key}: no such variable here", f"-e {key}=VALUE")
            value = found
        given[key] = value
    return given
