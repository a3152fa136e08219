"""Parameter and ParameterSpace: bounds, declared priors, units and dimensions, in physical units.

Plain data with its checks, and the reading of a configuration file. It knows no arrays of JAX, no
Scaling and no sampler.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

FAMILIES = ("TruncatedNormal", "Normal", "Uniform", "LogNormal", "BetaScaled")


@dataclass(frozen=True)
class Prior:
    """A declared prior: a family with its numbers, restricted to (low, high).

    `mu` and `sigma` are those of the normal distribution before it is cut (TruncatedNormal,
    Normal), of log θ (LogNormal), or mean and standard deviation (BetaScaled, a beta distribution
    stretched over (low, high)). A Uniform needs neither.
    """

    family: str
    mu: float | None
    sigma: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Parameter:
    """What is stated of one parameter, or of each element of one along `dim`.

    `low` and `high` are hard bounds, either of which may be infinite; equal ones pin the value.
    `mu`, `sigma` and `family` declare the prior (see `Prior`); without `mu` and `sigma` there is
    none, but for a Uniform. The prior is the family restricted to the bounds, or to the part of
    them between `prior_low` and `prior_high`. `unit` is for people. `initial` is where to start: a
    number, or one for each element along `dim`.

    Examples:
        >>> Parameter(100.0, 1e5, mu=1000.0, sigma=1000.0, unit="Å²/s").prior.family
        'TruncatedNormal'
    """

    low: float
    high: float
    mu: float | None = None
    sigma: float | None = None
    family: str = "TruncatedNormal"
    dim: str | None = None
    unit: str = ""
    initial: float | tuple[float, ...] | None = None
    prior_low: float | None = None
    prior_high: float | None = None

    @property
    def pinned(self) -> bool:
        """Whether the bounds leave one value."""
        return self.low == self.high

    @property
    def prior(self) -> Prior | None:
        """The declared prior on its support, or None."""
        if self.pinned or (self.mu is None and self.family != "Uniform"):
            return None
        low = self.low if self.prior_low is None else max(self.low, self.prior_low)
        high = self.high if self.prior_high is None else min(self.high, self.prior_high)
        if self.family == "LogNormal":
            low = max(low, 0.0)
        return Prior(self.family, self.mu, self.sigma, low, high)


class ParameterSpace(Mapping[str, Parameter]):
    """An ordered, immutable mapping from names to `Parameter`s.

    **Raises** `ValueError`, naming the parameter and the value, for bounds out of order or NaN, a
    family that is none of `FAMILIES`, mu without sigma, sigma ≤ 0, and a prior that its bounds
    make impossible.

    Examples:
        >>> space = ParameterSpace(D0=Parameter(100, 1e5), alpha=Parameter(-2, 2))
        >>> list(space), space.get_bounds("alpha")
        (['D0', 'alpha'], (-2.0, 2.0))
    """

    def __init__(self, mapping: Mapping[str, Parameter] | None = None, /, **parameters: Parameter):
        self._parameters = {
            name: _checked(name, parameter)
            for name, parameter in {**(mapping or {}), **parameters}.items()
        }
        if not self._parameters:
            raise ValueError("a ParameterSpace needs at least one parameter")

    def __getitem__(self, name: str) -> Parameter:
        if name not in self._parameters:
            raise KeyError(f"no parameter {name!r} in this space, which has {', '.join(self)}")
        return self._parameters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def __repr__(self) -> str:
        lines = (f"    {name}={parameter!r},\n" for name, parameter in self.items())
        return f"ParameterSpace(\n{''.join(lines)})"

    def get_bounds(self, name: str) -> tuple[float, float]:
        """(low, high), in physical units. **Raises** `KeyError` for a name that is not there."""
        parameter = self[name]
        return parameter.low, parameter.high

    def get_prior(self, name: str) -> Prior:
        """The declared prior. **Raises** `KeyError` where there is no such name, or no prior."""
        prior = self[name].prior
        if prior is None:
            raise KeyError(f"parameter {name!r} has no declared prior")
        return prior

    def label(self, name: str) -> str:
        """The name with its unit, if it has one, for people: `D0 (Å²/s)`."""
        unit = self[name].unit
        return name if unit in ("", "dimensionless") else f"{name} ({unit})"

    @property
    def initial(self) -> dict[str, float | tuple[float, ...]]:
        """The initial values of those parameters that have one."""
        return {name: p.initial for name, p in self.items() if p.initial is not None}

    @classmethod
    def from_config(cls, source: str | PathLike[str] | Mapping[str, Any]) -> ParameterSpace:
        """Read homodyne's configuration schema, from a YAML (or JSON) file or a mapping.

        It reads `parameter_space` (bounds and priors) and `initial_parameters` (values,
        per_angle_scaling, active_parameters, fixed_parameters) and nothing else. `contrast` and
        `offset` are vectors along `phi`. A prior from the section `priors` stands in for the one
        in `bounds`; its min_val and max_val restrict the prior, not the bounds. A parameter that
        is fixed, or not active, is pinned.

        **Raises** `ValueError` for an entry that cannot be honoured, naming it; `OSError` for a
        file that cannot be read; `ImportError` for a file where PyYAML (in the extra `cli`) is
        not installed.

        Examples:
            >>> space = ParameterSpace.from_config({
            ...     "parameter_space": {"bounds": [
            ...         {"name": "D0", "min": 100, "max": 1e5, "prior_mu": 1e3, "prior_sigma": 1e3},
            ...         {"name": "alpha", "min": -2, "max": 2}]},
            ...     "initial_parameters": {"fixed_parameters": {"alpha": -1.2}}})
            >>> space["alpha"].pinned, space.get_bounds("alpha")
            (True, (-1.2, -1.2))
        """
        from scalejax._config import load_config, read_parameters

        config = source if isinstance(source, Mapping) else load_config(source)
        return cls(read_parameters(config))


def _checked(name: str, parameter: Parameter) -> Parameter:
    """The parameter with plain floats, or a ValueError that names it."""
    if not isinstance(parameter, Parameter):
        raise ValueError(f"parameter {name!r}: expected a Parameter; got {parameter!r}")
    p = replace(
        parameter,
        **{
            field: _float(name, field, value)
            for field in ("low", "high", "mu", "sigma", "prior_low", "prior_high")
            if (value := getattr(parameter, field)) is not None
        },
    )
    _require(
        name,
        p.low <= p.high and p.low < math.inf and p.high > -math.inf,
        "low must not exceed high",
        f"low = {p.low}, high = {p.high}",
    )
    values = p.initial if isinstance(p.initial, tuple) else (p.initial,)
    _require(
        name,
        p.dim is not None or not isinstance(p.initial, tuple),
        "a scalar parameter starts at one value",
        f"initial = {p.initial}",
    )
    for value in () if p.initial is None else values:
        _require(
            name,
            p.low <= _float(name, "initial", value) <= p.high,
            f"initial must be within [{p.low}, {p.high}]",
            f"initial = {value}",
        )
    _check_prior(name, p)
    return p


def _check_prior(name: str, p: Parameter) -> None:
    mu, sigma = p.mu, p.sigma
    _require(
        name, p.family in FAMILIES, f"family must be one of {', '.join(FAMILIES)}", repr(p.family)
    )
    _require(
        name,
        (mu is None) == (sigma is None),
        "a prior needs both mu and sigma",
        f"mu = {mu}, sigma = {sigma}",
    )
    if mu is not None and sigma is not None:
        _require(name, math.isfinite(mu), "mu must be finite", f"mu = {mu}")
        _require(
            name, 0 < sigma < math.inf, "sigma must be positive and finite", f"sigma = {sigma}"
        )
    if (prior := p.prior) is None:
        return
    low, high = prior.low, prior.high
    where = f"({low}, {high})"
    _require(name, low < high, "the prior must have room within the bounds", where)
    if p.family in ("Uniform", "BetaScaled"):
        finite = math.isfinite(high - low)
        _require(name, finite, f"a {p.family} prior needs finite bounds", where)
    if mu is None or sigma is None:
        return
    if "Normal" in p.family:
        of_log = p.family == "LogNormal"
        ends = [math.log(x) if x > 0 else -math.inf for x in (low, high)] if of_log else [low, high]
        away = max(ends[0] - mu, mu - ends[1]) / sigma
        _require(
            name,
            away <= 1e6,
            "the bounds must not lie more than 10^6 sigma from mu",
            f"mu = {mu}, sigma = {sigma} with bounds {where}",
        )
    if p.family == "BetaScaled":
        inside = low < mu < high
        _require(name, inside, f"a BetaScaled prior needs mu inside {where}", f"mu = {mu}")
        _require(
            name,
            sigma**2 < (mu - low) * (high - mu),
            f"no beta distribution on {where} with mean {mu} is so wide",
            f"sigma = {sigma}",
        )


def _require(name: str, condition: bool, expected: str, got: str) -> None:
    if not condition:
        raise ValueError(f"parameter {name!r}: {expected}; got {got}")


def _float(name: str, field: str, value: object) -> float:
    try:
        number = float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        number = math.nan
    _require(name, not math.isnan(number), f"{field} must be a number", repr(value))
    return number
