"""Diagnostics: gradients out of balance, a Scaling in numbers, and what chains say of themselves.

The last is in `scalejax.diagnostics.chains`, which needs ArviZ.
"""

from scalejax.diagnostics.balance import HESSIAN_LIMIT as HESSIAN_LIMIT
from scalejax.diagnostics.balance import GradientBalance as GradientBalance
from scalejax.diagnostics.balance import Pair as Pair
from scalejax.diagnostics.balance import gradient_balance as gradient_balance
from scalejax.diagnostics.table import Row as Row
from scalejax.diagnostics.table import family_name as family_name
from scalejax.diagnostics.table import scaling_table as scaling_table
from scalejax.diagnostics.table import span as span
