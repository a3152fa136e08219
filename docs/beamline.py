"""The measurement of the page "From a beamline file to a posterior": python docs/beamline.py FILE

A sheared sample at two q, seven angles and 60 frames, in the layout of the APS before its upgrade.
With `--pictures` it also runs the page's commands, and draws their pictures.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import jax
import numpy as np

from scalejax.xpcs import Experiment, default_config, to_matrix, two_time

IMAGES = Path(__file__).parent / "pages" / "images"
PHI = np.array([-8.0, -4.0, 0.0, 4.0, 8.0, 88.0, 92.0])
Q = (0.0054, 0.0072)
FRAMES, PERIOD = 60, 0.05
PAGE = ("--frames", "1:60", "--gap", "2e6", "--per-angle", "constant")


def write(path):
    """Simulate it, and write half matrices."""
    jax.config.update("jax_enable_x64", True)
    truth = default_config("laminar_flow")["simulation"]["truth"]
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file["xpcs/dqlist"] = np.repeat(Q, len(PHI))[None]
        file["xpcs/dphilist"] = np.tile(PHI, len(Q))[None]
        file["measurement/instrument/detector/exposure_period"] = np.array([[PERIOD]])
        number = 0
        for q in Q:
            experiment = Experiment(t=np.arange(FRAMES) * PERIOD, phi=PHI, q=q, gap=2e6)
            pairs = two_time(truth, experiment)
            pairs = pairs + truth["sigma"] * rng.normal(size=pairs.shape)
            for matrix in np.asarray(to_matrix(pairs, np.full(len(PHI), 1.25), FRAMES)):
                number += 1
                file[f"exchange/C2T_all/g2_{number:05d}"] = np.triu(matrix)


def pictures(path):
    """Run the page's commands, print what they print, and keep their pictures."""
    folder = Path(path).parent
    file = ("--data", path, "--q", "0.0054", "--sampler", "importance", "--no-progress")
    for command in (
        ("data", path, "--plot", folder / "c2.png"),
        ("fit", *file, "--mode", "laminar_flow", *PAGE, "--output", folder / "flow"),
        ("fit", *file, "--mode", "static", *PAGE, "--output", folder / "static"),
        ("compare", folder / "flow", folder / "static"),
    ):
        done = subprocess.run(
            ["scalejax", *map(str, command)], check=True, capture_output=True, text=True, cwd=folder
        )
        print(done.stdout)
    for made, kept in (
        ("c2.png", "beamline-c2.png"),
        ("flow/fit.png", "beamline-fit.png"),
        ("static/residuals.png", "beamline-residuals.png"),
    ):
        shutil.copy(folder / made, IMAGES / kept)


if __name__ == "__main__":
    if "--pictures" in sys.argv:
        with tempfile.TemporaryDirectory() as directory:
            write(f"{directory}/measurement.hdf")
            pictures(f"{directory}/measurement.hdf")
    else:
        write(sys.argv[1])
