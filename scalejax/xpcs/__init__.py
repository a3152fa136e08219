"""X-ray photon correlation: the two-time correlation of a sheared, diffusing sample.

An application of scalejax. The NumPyro model is in `scalejax.xpcs.model`, so that the rest stands
without NumPyro.
"""

from scalejax.xpcs.config import default_config as default_config
from scalejax.xpcs.config import default_space as default_space
from scalejax.xpcs.config import load_config as load_config
from scalejax.xpcs.config import read_space as read_space
from scalejax.xpcs.correlation import Experiment as Experiment
from scalejax.xpcs.correlation import simulate as simulate
from scalejax.xpcs.correlation import to_matrix as to_matrix
from scalejax.xpcs.correlation import two_time as two_time
from scalejax.xpcs.parameters import for_mode as for_mode
