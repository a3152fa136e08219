"""Residuals that are white, and residuals that are not, in known ways."""

import numpy as np
import pytest

from scalejax.xpcs.whiteness import FARTHEST, Whiteness, in_words, whiteness

N_T = 60
PAIRS = np.triu_indices(N_T, k=1)


def residuals(matrices):
    return np.stack([matrix[PAIRS] for matrix in matrices])


def test_white_noise_is_white():
    """In one of a hundred such runs one of 100 angles × 3 directions is 4 standard errors off."""
    rng = np.random.default_rng(0)
    found = whiteness(rng.normal(size=(100, len(PAIRS[0]))), N_T)
    assert [one.frames for one in found] == [0] * 100
    assert "white" in in_words(found, [f"{k}°" for k in range(100)])


@pytest.mark.parametrize("along", [0, 1])
@pytest.mark.parametrize("frames", [1, 3])
def test_a_running_mean_is_correlated_over_its_length(along, frames):
    """That of `frames` + 1 values in a row has correlations 1 − k/(frames + 1)."""
    rng = np.random.default_rng(1)
    wide = rng.normal(size=(N_T + frames, N_T + frames))
    kernel = np.ones(frames + 1) / np.sqrt(frames + 1)
    smooth = np.apply_along_axis(np.convolve, along, wide, kernel, "valid")[:N_T, :N_T]
    (found,) = whiteness(residuals([smooth]), N_T)
    assert found.frames == frames
    # 1770 products: four standard errors, each at most 2/√1770 with this correlation.
    assert abs(found.next_frame - frames / (frames + 1)) < 8 / np.sqrt(1770)


def test_noise_of_a_frame_is_in_all_its_pairs():
    """A frame that is brighter shifts its row: correlated as far as is looked."""
    rng = np.random.default_rng(2)
    matrix = rng.normal(size=(N_T, N_T)) + rng.normal(size=(N_T, 1))
    (found,) = whiteness(residuals([matrix]), N_T)
    assert found.frames >= FARTHEST
    assert f"over {FARTHEST} frames or more" in in_words([found], ["72°"])


def test_words():
    found = [Whiteness(0, 0.0), Whiteness(3, 0.4), Whiteness(1, 0.2)]
    said = in_words(found, ["0°", "72°", "90°"])
    assert said == (
        "residuals at 72° are correlated over 3 frames (by 0.4 from one to the next), and at 1 "
        "more of 3 angles: the noise model, or the model, is too simple"
    )


@pytest.mark.parametrize("n_t", [3, 4])
@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_few_frames_and_no_noise(n_t, value):
    count = n_t * (n_t - 1) // 2
    rows = np.vstack([np.full(count, value), np.arange(count)])
    with np.errstate(all="ignore"):
        assert whiteness(rows, n_t)[0].frames == 0
