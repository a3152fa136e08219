"""Who imports whom, and what `import scalejax` loads."""

import graphlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
_spec = importlib.util.spec_from_file_location("house", ROOT / "docs" / "house.py")
house = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(house)

FLOOR = {name: height for height, floor in enumerate(house.FLOORS) for name in floor}
GRAPH = house.graph()


def test_every_room_has_a_floor():
    assert {house.room(name) for name in GRAPH if name} == set(FLOOR)


def test_no_circle():
    """At any depth, imports inside functions included."""
    order = list(graphlib.TopologicalSorter(GRAPH).static_order())
    assert len(order) == len(GRAPH)


@pytest.mark.parametrize("name", [name for name in GRAPH if name])
def test_imports_go_downwards(name):
    for other in GRAPH[name]:
        if house.room(name) != house.room(other):
            assert FLOOR[house.room(other)] < FLOOR[house.room(name)], f"{name} imports {other}"


def test_the_library_does_not_import_the_application():
    for name, others in GRAPH.items():
        if house.room(name) != "xpcs":
            assert not {other for other in others if house.room(other) == "xpcs"}, name


def test_what_import_scalejax_loads():
    """In a fresh interpreter; how long it takes beside Equinox is printed (`pytest -rP`)."""
    code = """
import sys, time
start = time.perf_counter()
import equinox
middle = time.perf_counter()
import scalejax
end = time.perf_counter()
print(f"import equinox {middle - start:.2f} s, import scalejax on top {end - middle:.2f} s")
print(",".join({name.split(".")[0] for name in sys.modules}))
print(",".join(name for name in sys.modules if name.startswith("scalejax.")))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    times, packages, own = done.stdout.strip().splitlines()
    print(times)
    loaded = set(packages.split(","))
    assert not loaded & {"scipy", "numpyro", "arviz", "matplotlib", "optimistix", "yaml"}
    assert not {name for name in own.split(",") if name.split(".")[1] in ("xpcs", "numpyro")}


def test_the_help_of_the_command_line_waits_for_no_sampler():
    """Nor for a calibration: they are imported when they are asked for."""
    code = "import sys, scalejax.xpcs.cli; print(','.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    slow = {"numpyro", "arviz", "matplotlib", "optimistix", "zarr", "scalejax.calibrate"}
    assert not slow & set(done.stdout.strip().split(","))
