"""The adapter to NumPyro: one sample site for whole coordinates, priors, and where chains start.

Nothing in the core imports this package.
"""

from scalejax.numpyro.chunks import Chunk as Chunk
from scalejax.numpyro.chunks import chain_mesh as chain_mesh
from scalejax.numpyro.chunks import chunks as chunks
from scalejax.numpyro.density import log_density as log_density
from scalejax.numpyro.distributions import DeclaredPrior as DeclaredPrior
from scalejax.numpyro.distributions import NormalPrior as NormalPrior
from scalejax.numpyro.distributions import ScalingTransform as ScalingTransform
from scalejax.numpyro.distributions import declared_prior as declared_prior
from scalejax.numpyro.distributions import normal_prior as normal_prior
from scalejax.numpyro.sites import sample_scaled as sample_scaled
from scalejax.numpyro.start import init_to_original as init_to_original
from scalejax.numpyro.start import init_to_standard_normal as init_to_standard_normal
