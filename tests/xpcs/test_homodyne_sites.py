"""Homodyne's sites, a group at a time, and where their chains start."""

import jax
import numpy as np
import pytest
from numpyro.handlers import seed
from numpyro.infer import MCMC, NUTS, Predictive

from scalejax.xpcs.homodyne.sites import init_to_initial_z, sample_scaled_parameter
from tests.test_numpyro import SCALING, sites, start


def test_one_group():
    for name, shape in (("contrast", (3,)), ("D0", ())):
        found = sites(sample_scaled_parameter, name, SCALING[name])
        assert list(found) == [f"{name}_z", name]
        assert found[f"{name}_z"]["value"].shape == shape
        assert found[name]["value"].shape == shape
        whole = found[f"{name}_z"]["value"]
        want = SCALING[name].to_original(whole if shape else whole[None])
        np.testing.assert_array_equal(found[name]["value"], want if shape else want[0])


@pytest.mark.slow
def test_initial_z_is_where_the_chain_starts():
    def model():
        sample_scaled_parameter("contrast", SCALING["contrast"], initial_z=[0.1, -0.2, 0.3])
        sample_scaled_parameter("D0", SCALING["D0"], initial_z=-0.7)
        sample_scaled_parameter("sigma", SCALING["sigma"])

    z = start(model, init_strategy=init_to_initial_z)
    np.testing.assert_allclose(z["contrast_z"], [0.1, -0.2, 0.3])
    np.testing.assert_allclose(z["D0_z"], -0.7)
    assert abs(z["sigma_z"]) <= 2  # by init_to_uniform
    # The values of a prior predictive draw are not tied to where chains start.
    draws = Predictive(model, num_samples=100)(jax.random.key(0))
    assert draws["D0_z"].std() > 0.5


@pytest.mark.slow
def test_initial_z_in_a_run(dtype):
    """With no step taken, and with several chains, draws stay where they started."""

    def model():
        sample_scaled_parameter("D0", SCALING["D0"], initial_z=-0.7)

    kernel = NUTS(
        model, init_strategy=init_to_initial_z, step_size=1e-9, adapt_step_size=False,
        adapt_mass_matrix=False, max_tree_depth=1,
    )  # fmt: skip
    mcmc = MCMC(kernel, num_warmup=0, num_samples=2, num_chains=2, progress_bar=False,
                chain_method="vectorized")  # fmt: skip
    mcmc.run(jax.random.key(0))
    np.testing.assert_allclose(mcmc.get_samples()["D0_z"], -0.7, rtol=1e-6)


def test_errors():
    run = seed(sample_scaled_parameter, jax.random.key(0))
    with pytest.raises(ValueError, match=r"needs the Scaling of one group, as scaling\['D0'\]"):
        run("D0", SCALING)
    with pytest.raises(ValueError, match=r"must be a scalar or have shape \(3,\); got \(2,\)"):
        run("contrast", SCALING["contrast"], initial_z=[0.0, 0.0])
    with pytest.raises(ValueError, match="initial_z of 'D0' must be finite; got nan"):
        run("D0", SCALING["D0"], initial_z=np.nan)
    for bad in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="prior_scale must be positive; got"):
            run("D0", SCALING["D0"], prior_scale=bad)
