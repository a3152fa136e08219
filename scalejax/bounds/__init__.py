"""Elementwise bijections between the real line and bounded sets, one for each kind of bounds.

`kinds` has the table with their formulas. This package knows nothing of parameters, groups, priors
or samplers; `scalejax.Scaling` gives the numbers their meaning.
"""

from scalejax.bounds.conditions import INVERSE_MARGIN as INVERSE_MARGIN
from scalejax.bounds.conditions import of_every_kind as of_every_kind
from scalejax.bounds.kind import Condition as Condition
from scalejax.bounds.kind import Kind as Kind
from scalejax.bounds.kinds import BY_BOUNDS as BY_BOUNDS
from scalejax.bounds.kinds import KINDS as KINDS
from scalejax.bounds.kinds import Chosen as Chosen
from scalejax.bounds.kinds import as_kind as as_kind
from scalejax.bounds.kinds import kind_masks as kind_masks
from scalejax.bounds.maps import forward_and_log_det as forward_and_log_det
from scalejax.bounds.maps import inverse as inverse
from scalejax.bounds.maps import strictly_inside as strictly_inside
