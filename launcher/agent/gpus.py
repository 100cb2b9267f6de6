"""What GPUs the job has, and whether its torch can use them: said at once, not after an epoch on the CPU."""

import re
import shutil
import threading

TOLERANCE = 0.95  # a "16GB" T4 shows 15.6e9 bytes to a program: the driver keeps some for itself

# The oldest GPU that the wheels of a CUDA release still have code for, newest release first.
_OLDEST_GPU = (((13, 0), (7, 5)), ((12, 8), (7, 0)), ((0, 0), (5, 0)))


def look():
    """{"gpus": [{name, memory_mb, driver, compute_cap}], "driver_cuda"}; None without nvidia-smi."""
    if shutil.which("nvidia-smi") is None:
        return None
    from launcher.agent import probe

    found = {"gpus": [], "driver_cuda": None}
    driver = threading.Thread(target=probe._driver_cuda, args=(found,), daemon=True)
    driver.start()  # each question may take a second: both at once
    probe._gpus(found)
    driver.join()
    return found


def why_blind(portable, found):
    """Why a torch with this fingerprint would not see these GPUs, and what would help; "" if it would or may."""
    if found is None or not any(name.startswith("torch==") for name in portable["packages"]):
        return ""
    if not found["gpus"]:
        return "the job asked for a GPU, but nvidia-smi shows none"
    if portable["torch_cuda"] is None:
        return "the locked torch is a build without CUDA; `torch: %s` would work" % _build_for(found)
    built = _number(portable["torch_cuda"])
    driver = _number(found["driver_cuda"])
    if driver and built[0] > driver[0]:
        return "torch is built for CUDA %s, the driver reaches %s; `torch: %s` would work" % (
            portable["torch_cuda"],
            found["driver_cuda"],
            _build_for(found),
        )
    oldest = next(gpu for cuda, gpu in _OLDEST_GPU if built >= cuda)
    for gpu in found["gpus"]:
        if gpu["compute_cap"] and _number(gpu["compute_cap"]) < oldest:
            return "torch for CUDA %s has no code for a %s (sm_%s); `torch: %s` would work" % (
                portable["torch_cuda"],
                gpu["name"],
                gpu["compute_cap"].replace(".", ""),
                _build_for(found),
            )
    return ""


def fits(models, memory_bytes, name, found_bytes):
    """Whether the GPU called `name` (by its driver or a price list), with so much memory, is one of those wanted."""
    if memory_bytes and (found_bytes or 0) < memory_bytes * TOLERANCE:
        return False
    return not models or any(_same_model(wanted, name) for wanted in models)


def _same_model(wanted, name):
    """`RTX4090` is `NVIDIA GeForce RTX 4090` and `A100-80GB` is `A100-SXM4-80GB`; `A10` is not `A100`."""
    words = re.findall(r"[a-z0-9]+", name.lower())
    joined = {"".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, i + 4)}
    return all(word in joined for word in re.findall(r"[a-z0-9]+", wanted.lower()))


def _build_for(found):
    """The newest build of torch that suits this driver and every GPU."""
    driver = _number(found["driver_cuda"]) or (13, 0)
    oldest = min([_number(gpu["compute_cap"]) for gpu in found["gpus"] if gpu["compute_cap"]] or [(9, 0)])
    if driver >= (13, 0) and oldest >= (7, 5):
        return "cu130"
    return "cu128" if driver >= (12, 8) and oldest >= (7, 0) else "cu126"


def _number(version):
    """(12, 8) of "12.8"; None stays None."""
    return tuple(int(part) for part in version.split(".")[:2]) if version else None
