"""What homodyne's scaling module has, for code that is moving over.

`sample_scaled_parameter` and `init_to_initial_z` are in `scalejax.xpcs.homodyne.sites`, so that the
rest stands without NumPyro.
"""

from scalejax.xpcs.homodyne.factors import compute_scaling_factors as compute_scaling_factors
from scalejax.xpcs.homodyne.factors import log_scaling_factors as log_scaling_factors
from scalejax.xpcs.homodyne.rule import RULES as RULES
from scalejax.xpcs.homodyne.rule import center_and_scale as center_and_scale
from scalejax.xpcs.homodyne.rule import distortions as distortions
from scalejax.xpcs.homodyne.rule import distortions_of as distortions_of
from scalejax.xpcs.homodyne.rule import homodyne as homodyne
from scalejax.xpcs.homodyne.rule import report_distortion as report_distortion
from scalejax.xpcs.homodyne.rule import report_distortions as report_distortions
