"""What chains say of themselves: a summary, and what speaks against trusting them.

It takes ArviZ InferenceData, and knows no model.
"""

from __future__ import annotations

from collections.abc import Iterable

import arviz as az
import numpy as np
import xarray

R_HAT_LIMIT = 1.01  # Vehtari et al. 2021, doi:10.1214/20-BA1221


def summary(result: az.InferenceData, names: Iterable[str]) -> xarray.Dataset:
    """Mean, sd, 5 % and 95 % quantiles, effective sample size and R-hat, along `statistic`.

    Of the parameters in `names`. R-hat is nan where there is one chain, or where none has moved.
    """
    posterior = result["posterior"][list(names)]
    quantiles = posterior.quantile([0.05, 0.95], dim=("chain", "draw"))
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = {
            "mean": posterior.mean(("chain", "draw")),
            "sd": posterior.std(("chain", "draw"), ddof=1),
            "5 %": quantiles.isel(quantile=0, drop=True),
            "95 %": quantiles.isel(quantile=1, drop=True),
            "ESS": az.ess(posterior),
            "R-hat": az.rhat(posterior),
        }
    return xarray.concat(parts.values(), dim="statistic").assign_coords(statistic=list(parts))


def of_chains(result: az.InferenceData) -> bool:
    """Whether the draws are those of chains, by what a sampler says of each."""
    return "sample_stats" in result and "diverging" in result["sample_stats"]


def concerns(result: az.InferenceData, table: xarray.Dataset) -> list[str]:
    """What speaks against trusting the posterior, in words; nothing if it has converged."""
    found = []
    if not of_chains(result):
        return found
    diverging = result["sample_stats"]["diverging"]
    if count := int(diverging.sum()):
        found.append(
            f"{count} of {diverging.size} draws diverged: the sampler could not follow the "
            "posterior there, and the draws may leave parts of it out"
        )
    if result["posterior"].sizes["chain"] < 2:
        found.append("one chain cannot show whether it has converged; run at least two")
        return found
    r_hat = {str(name): table[name].sel(statistic="R-hat").values for name in table.data_vars}
    # nan, of chains that stand still, is not within the limit either.
    high = [name for name, values in r_hat.items() if not (values <= R_HAT_LIMIT).all()]
    if high:
        name = max(high, key=lambda n: np.nan_to_num(r_hat[n], nan=np.inf).max())
        found.append(
            f"R-hat exceeds {R_HAT_LIMIT} for {', '.join(high)} (worst: {name}, "
            f"{r_hat[name].max():.3f}): the chains do not agree yet; sample longer"
        )
    return found
