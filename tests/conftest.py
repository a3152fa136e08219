"""Eight host devices for the placement tests, both precisions, and hypothesis settings."""

import os
from pathlib import Path

# What one worker or command has compiled, however small, the others need not, nor the next run.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".pytest_cache" / "jax")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import hypothesis
import jax
import jaxtyping
import pytest
from jaxtyping import install_import_hook

from tests.typecheck import MODULES

# Shapes in annotations are checked in every call, from before the first import of the library.
install_import_hook(MODULES, "tests.typecheck.checked")

# The eight devices, before the command line under test asks for as many as it has chains.
assert len(jax.devices()) == 8

# Compilation makes the first example slow; a failure must be the same one again.
hypothesis.settings.register_profile(
    "scalejax",
    deadline=None,
    derandomize=True,
    # `dtype` sets the precision once for all examples, as it should.
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("scalejax")


@pytest.fixture(autouse=True)
def _precision():
    """What a test switches on, such as the command line under test, it does not leave on."""
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture(autouse=True)
def _annotations(request):
    """A test marked `hostile` gives what annotations forbid, to see what the library says."""
    hostile = request.node.get_closest_marker("hostile") is not None
    jaxtyping.config.update("jaxtyping_disable", hostile)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """The precision to work in, switched on for the test."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield
