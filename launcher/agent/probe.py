"""What this machine has: GPUs and driver, Docker, disk, tools."""

import os
import shutil
import subprocess
import threading

from launcher.agent.operation import Failure

TOOLS = ("sh", "bash", "python3", "uv", "docker", "git", "tar", "zstd", "nvidia-smi")
GPU_TIMEOUT_S = 20.0


def probe(operation):
    """One look, its slow parts side by side."""
    found = {"docker": None, "docker_error": "", "gpus": [], "driver_cuda": None}
    parts = [
        threading.Thread(target=_docker, args=(found, operation.args.get("docker_socket")), daemon=True),
        threading.Thread(target=_gpus, args=(found,), daemon=True),
        threading.Thread(target=_driver_cuda, args=(found,), daemon=True),
    ]
    for part in parts:
        part.start()
    found.update(
        disk_free_bytes=shutil.disk_usage(operation.root).free,
        glibc=_glibc(),
        kernel=os.uname().release,
        tools={name: path for name in TOOLS for path in [shutil.which(name)] if path},
    )
    for part in parts:
        part.join()
    return found


def parse_gpus(text):
    """The lines of `nvidia-smi --query-gpu=name,memory.total,driver_version,compute_cap --format=csv,…`."""
    gpus = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) < 3 or not fields[1].split(".")[0].isdigit():
            continue
        gpus.append(
            {
                "name": fields[0],
                "memory_mb": int(fields[1].split(".")[0]),
                "driver": fields[2],
                "compute_cap": fields[3] if len(fields) > 3 and fields[3][:1].isdigit() else None,
            }
        )
    return gpus


def parse_driver_cuda(text):
    """The newest CUDA that the driver can run, from the head of plain `nvidia-smi`."""
    _, found, rest = text.partition("CUDA Version:")
    words = rest.split(None, 1)
    return words[0] if found and words and words[0][:1].isdigit() else None


def _gpus(found):
    for fields in ("name,memory.total,driver_version,compute_cap", "name,memory.total,driver_version"):
        text = _smi("--query-gpu=" + fields, "--format=csv,noheader,nounits")
        found["gpus"] = parse_gpus(text)
        if found["gpus"]:
            return  # drivers before 510 know no compute_cap


def _driver_cuda(found):
    found["driver_cuda"] = parse_driver_cuda(_smi())


def _smi(*args):
    path = shutil.which("nvidia-smi")
    if path is None:
        return ""
    try:
        done = subprocess.run(
            [path, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=GPU_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""  # a driver that hangs is a driver that is not there
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


def _docker(found, given):
    from launcher.agent import dockerapi

    path = dockerapi.socket_path(given)
    try:
        version = _ask(path, "/version")
        info = _ask(path, "/info")
    except Failure as error:
        found["docker_error"] = str(error)
        return
    runtimes = info.get("Runtimes") or {}
    found["docker"] = {
        "version": version.get("Version", ""),
        "api": version.get("ApiVersion", ""),
        "root": info.get("DockerRootDir", ""),
        "socket": path,
        "images": info.get("Images"),
        "gpu_runtime": "nvidia" in runtimes or bool(shutil.which("nvidia-container-runtime-hook")),
        "rootless": any("rootless" in option for option in info.get("SecurityOptions") or ()),
    }


def _ask(path, where):
    from launcher.agent import dockerapi

    with dockerapi.Call(10.0, path) as call:
        answer = call.ask("GET", where, None, {})
        value = dockerapi.value(answer)
    if answer.status != 200 or not isinstance(value, dict):
        raise Failure("docker", dockerapi.message(answer.status, value))
    return value


def _glibc():
    try:
        return os.confstr("CS_GNU_LIBC_VERSION")
    except (AttributeError, ValueError, OSError):
        return None  # musl, macOS
