"""A FAKE GPU: programs that stand where NVIDIA's would be, on machines that have none."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class FakeGPU:
    """What the fake `nvidia-smi` says."""

    name: str = "FAKE GeForce RTX 4090"
    driver: str = "580.65.06"
    cuda: str = "13.0"
    memory_mb: int = 24564
    compute_cap: str = "8.9"
    count: int = 1


def nvidia_smi(gpu: FakeGPU) -> str:
    """The text of a program that answers like nvidia-smi: the table, `-L`, and --query-gpu as CSV."""
    return SMI.replace("@GPU@", repr(json.dumps(asdict(gpu))))


SMI = """#!/usr/bin/python3
# FAKE nvidia-smi of the test bed: there is no GPU behind it
import json, sys
gpu = json.loads(@GPU@)
uuid = lambda i: "GPU-fa4e0000-0000-0000-0000-%012d" % i
options = dict(word.partition("=")[::2] for word in sys.argv[1:])
if "-L" in options:
    for i in range(gpu["count"]):
        print("GPU %d: %s (UUID: %s)" % (i, gpu["name"], uuid(i)))
elif "--query-gpu" in options:
    form = options.get("--format", "csv")
    unit = (lambda u: "") if "nounits" in form else (lambda u: " " + u)
    fields = options["--query-gpu"].split(",")
    if "noheader" not in form:
        print(", ".join(fields))
    for i in range(gpu["count"]):
        known = {
            "index": i, "uuid": uuid(i), "gpu_uuid": uuid(i), "count": gpu["count"],
            "name": gpu["name"], "gpu_name": gpu["name"],
            "driver_version": gpu["driver"], "compute_cap": gpu["compute_cap"],
            "memory.total": "%d%s" % (gpu["memory_mb"], unit("MiB")), "memory.used": "1" + unit("MiB"),
            "memory.free": "%d%s" % (gpu["memory_mb"] - 1, unit("MiB")),
            "utilization.gpu": "0" + unit("%"), "utilization.memory": "0" + unit("%"), "temperature.gpu": 30,
        }
        for field in fields:
            if field.strip() not in known:
                sys.exit('Field "%s" is not a valid field to query.' % field)
        print(", ".join(str(known[field.strip()]) for field in fields))
elif "--query-compute-apps" in options:
    pass
else:
    versions = (gpu["driver"], gpu["driver"], gpu["cuda"])
    print("| NVIDIA-SMI %s    Driver Version: %s    CUDA Version: %s |" % versions)
    for i in range(gpu["count"]):
        print("| %3d  %s  1MiB / %dMiB |" % (i, gpu["name"], gpu["memory_mb"]))
"""

# Docker runs this before a container with --gpus starts; the real one mounts the driver, this one
# nvidia-smi alone.
HOOK = """#!/usr/bin/python3
# FAKE nvidia-container-runtime-hook of the test bed
import json, os, shutil, sys
bundle = json.load(sys.stdin)["bundle"]
with open(os.path.join(bundle, "config.json")) as file:
    root = os.path.join(bundle, json.load(file)["root"]["path"])
shutil.copy("/usr/local/bin/nvidia-smi", os.path.join(root, "usr/bin/nvidia-smi"))
"""
