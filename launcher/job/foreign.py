"""What to answer to a key that is not ours: the right one, when another tool or a slip explains it."""

from __future__ import annotations

import difflib

from launcher.job.keys import JOB, Section

_OTHERS = {
    "env": "envs environ environment_variables env_vars variables",
    "run": "command commands cmd entrypoint entry_point script code_file exec main args arguments task",
    "params": "parameters hyperparameters hparams config vars",
    "name": "id title job job_name experiment",
    "data": "file_mounts volumes mounts storage storage_mounts dataset datasets dataset_sources inputs input",
    "files.also": "extra_files shared py_modules local_python_source add_local_dir",
    "files": "workdir working_dir work_dir repos repo code code_dir source src context include exclude",
    "environment": "setup runtime runtime_env conda build",
    "environment.image": "image image_id docker_image container container_image",
    "environment.dockerfile": "docker build_context",
    "environment.base": "base_image from",
    "environment.requirements": "pip packages dependencies lock lockfile requirements_file pip_packages",
    "environment.python": "python_version interpreter",
    "environment.apt": "apt_packages system_packages apt_get",
    "environment.torch": "cuda torch_backend nvcc cuda_version",
    "environment.index": "indexes index_url extra_index_url index_urls",
    "resources": "hardware machine compute requirements_hw",
    "resources.gpu": "accelerators accelerator gpus gpu_type gpu_model enable_gpu machine_shape vram device",
    "resources.count": "num_gpus gpu_count n_gpus gpus_per_node devices",
    "resources.cpu": "cpus num_cpus vcpus cores",
    "resources.memory": "mem ram memory_gb mem_gb",
    "resources.disk": "disk_size disk_gb storage_gb",
    "resources.spot": "use_spot spot_policy interruptible preemptible",
    "resources.nodes": "num_nodes nnodes n_nodes replicas num_workers workers",
    "checkpoints": "checkpoint checkpointing save",
    "checkpoints.every": "interval frequency save_every period",
    "checkpoints.keep": "keep_last max_to_keep save_total_limit keep_n",
    "limits": "limit budget timeouts",
    "limits.time": "timeout max_duration time_limit walltime max_time duration deadline",
    "limits.cost": "max_price max_cost max_hourly_cost price max_budget",
    "limits.idle": "autostop idle_duration idle_minutes_to_autostop idle_minutes autodown",
    "limits.stall": "utilization_policy stalled no_progress_timeout",
    "retry": "retries restart restart_policy recovery job_recovery",
    "retry.max": "max_retries max_restarts max_restarts_on_errors attempts limit_retries",
    "retry.on": "on_events when events",
    "targets": "target on cloud clouds provider providers backend backends infra region any_of ordered",
    "store": "bucket s3 remote output_uri artifacts_uri",
    "secrets": "secret secret_names tokens",
}
FOREIGN = {name: ours for ours, names in _OTHERS.items() for name in names.split()}

_NO_KEY = {
    "outputs": "write outputs to $LAUNCHER_OUT: all of it comes home",
    "output": "write outputs to $LAUNCHER_OUT: all of it comes home",
    "ports": "no key needed: `launcher forward RUN PORT`",
    "shm_size": "no key needed: /dev/shm has half of the memory",
    "instance_type": "name what the job needs: resources.gpu, count, cpu, memory",
    "schedule": "there is no scheduler: use cron with `launcher run -d`",
    "enable_internet": "no key needed: it follows from the environment",
    "is_private": "no key needed: everything is private",
    "type": "no key needed: every job is a task that ends",
    "version": "no key needed",
    "<<": "merge keys are not allowed: write the values out",
}
_HINTS = {
    "environment": "a setup step becomes environment.requirements and environment.apt, or a line of run",
    "files": "the folder of job.yaml is the working directory; include and exclude choose from it",
    "run": "write one command, or several lines after `run: |`",
}


def answer(key: str, section: Section, path: str) -> tuple[str, str]:
    """(what is said after `unknown key`, hint)."""
    known = list(section.keys)
    hint = f"known here: {', '.join(known)}"
    if key in _NO_KEY and key not in known:
        return "", _NO_KEY[key]
    if ours := FOREIGN.get(key.lower().replace("-", "_")):
        here = ours.removeprefix(f"{path}.")
        return f"; here it is {here!r}", _HINTS.get(ours, f"write {_example(here)}")
    if near := difflib.get_close_matches(key.lower().replace("-", "_"), known, n=1, cutoff=0.75):
        return f"; did you mean {near[0]!r}?", hint
    if places := _elsewhere(key):
        return (
            f"; it belongs under {' or '.join(map(repr, places))}",
            f"write {_example(f'{places[0]}.{key}')}",
        )
    if near := difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.5):
        return f"; did you mean {near[0]!r}?", hint
    return "", hint


def _elsewhere(key: str) -> list[str]:
    """Sections that have this key; a top-level key stands alone."""
    found = [name for name, k in JOB.keys.items() if isinstance(k.kind, Section) and key in k.kind.keys]
    return found or (["the top level"] if key in JOB.keys else [])


def _example(ours: str) -> str:
    section, _, key = ours.rpartition(".")
    if section == "the top level":
        return f"`{key}:` without indent"
    return f"`{section}: {{{key}: …}}`" if section else f"`{ours}: …`"
