#!/usr/bin/python3
"""A FAKE nvidia-smi: there is no GPU. Prints what the real one prints for the accelerator that was given."""

import re
import sys

NAME, MEMORY_MB, CAPABILITY = ("@NAME@", "@MEMORY_MB@", "@CAPABILITY@")
FACTS = {
    "name": NAME,
    "gpu_name": NAME,
    "index": "0",
    "count": "1",
    "uuid": "GPU-00000000-fake-fake-fake-000000000000",
    "memory.total": MEMORY_MB + " MiB",
    "memory.used": "3 MiB",
    "memory.free": str(int(MEMORY_MB) - 3) + " MiB",
    "utilization.gpu": "0 %",
    "driver_version": "580.82.07",
    "compute_cap": CAPABILITY,
}


def main(arguments):
    if "-L" in arguments:
        print("GPU 0: {} (UUID: {})".format(NAME, FACTS["uuid"]))
        return
    query = next((word.partition("=")[2] for word in arguments if word.startswith("--query-gpu=")), None)
    if query is None:
        print("FAKE nvidia-smi: there is no GPU behind it")
        print("Driver Version: {}  CUDA Version: 13.0".format(FACTS["driver_version"]))
        print(f"| 0  {NAME}  {MEMORY_MB}MiB |")
        return
    options = next((word for word in arguments if word.startswith("--format=")), "")
    values = [FACTS.get(name.strip(), "[N/A]") for name in query.split(",")]
    if "nounits" in options:
        values = [re.sub(r" (MiB|%)$", "", value) for value in values]
    if "noheader" not in options:
        print(", ".join(query.split(",")))
    print(", ".join(values))


main(sys.argv[1:])
