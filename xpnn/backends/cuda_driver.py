"""Asks the NVIDIA driver whether a GPU works, without importing a GPU library."""

import ctypes
import functools

DRIVER_LIBRARIES = ("libcuda.so.1", "libcuda.so", "nvcuda.dll")
DRIVER_ANSWERS = {
    35: "the NVIDIA driver is older than CUDA needs; update the driver",
    100: "the NVIDIA driver sees no GPU; check nvidia-smi",
    999: "the NVIDIA driver reports an unknown fault; restart the machine, then check nvidia-smi",
}


@functools.cache
def driver_fault() -> str | None:
    """Why no NVIDIA GPU can be used, in words and with the way out, or None if one can."""
    driver = _load_driver()
    if driver is None:
        return "no NVIDIA driver is installed; install one from your system and check nvidia-smi"
    answer = driver.cuInit(0)
    if answer:
        return DRIVER_ANSWERS.get(answer, f"the NVIDIA driver fails with error {answer}")
    count = ctypes.c_int(0)
    answer = driver.cuDeviceGetCount(ctypes.byref(count))
    if answer or count.value == 0:
        return DRIVER_ANSWERS[100]
    return None


def _load_driver() -> ctypes.CDLL | None:
    for name in DRIVER_LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None
