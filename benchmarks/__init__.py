"""The library beside its peers. Each module is run by itself: python -m benchmarks.accuracy"""

import os
from importlib.metadata import version

import jax


def environment() -> str:
    """Versions and the device, for the foot of a table."""
    names = ("jax", "numpyro", "tfp-nightly", "flowjax")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    device = jax.devices()[0]
    return f"{versions}, on {device.device_kind} with {os.cpu_count()} cores"
