"""Parameter and ParameterSpace: bounds, declared priors, units and dimensions, in physical units.

Plain data with its checks. It knows no arrays of JAX, no Scaling, no file and no sampler.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from scalejax.bounds import Kind, as_kind
from scalejax.families import FAMILIES, Distribution, Prior, problems, support
from scalejax.groups import Group


@dataclass(frozen=True)
class Parameter:
    """What is stated of one parameter, or of each element of one along `dim`.

    `low` and `high` are hard bounds, either of which may be infinite; equal ones pin the value.
    `mu`, `sigma` and `family` declare the prior (see `Prior`); without the numbers that its family
    needs there is none. The prior is the family restricted to the bounds, or to the part of them
    between `prior_low` and `prior_high`. `unit` is for people. `initial` is where to start: a
    number, or one for each element along `dim`. `fixed` pins the elements along `dim` at a value
    each, within the bounds. `kind` is the kind of the bounds, where they alone do not say it: a
    name such as `log_interval`, or a `bounds.Kind`. It chooses coordinates and leaves the prior as
    it is.

    Examples:
        >>> from scalejax import Parameter
        >>> Parameter(100.0, 1e5, mu=1000.0, sigma=1000.0, unit="Å²/s").prior.family
        'TruncatedNormal'
        >>> rate = Parameter(1e-6, 1e3, family="LogUniform", kind="log_interval")
        >>> from scipy import stats
        >>> heavy = Parameter(-100, 100, family=stats.t(3))
        >>> Parameter(0.0, 1.0, fixed=(0.05, 0.06), dim="phi").pinned
        True
    """

    low: float
    high: float
    mu: float | None = None
    sigma: float | None = None
    family: str | Distribution = "TruncatedNormal"
    dim: str | None = None
    unit: str = ""
    initial: float | tuple[float, ...] | None = None
    prior_low: float | None = None
    prior_high: float | None = None
    kind: str | Kind | None = None
    fixed: tuple[float, ...] | None = None

    @property
    def pinned(self) -> bool:
        """Whether there is one value for it, or one for each element."""
        return self.fixed is not None or self.low == self.high

    @property
    def prior(self) -> Prior | None:
        """The declared prior on its support, or None."""
        if self.pinned or not self._declared:
            return None
        low, high = support(self.family)
        low, high = max(self.low, low), min(self.high, high)
        low = low if self.prior_low is None else max(low, self.prior_low)
        high = high if self.prior_high is None else min(high, self.prior_high)
        return Prior(self.family, self.mu, self.sigma, low, high)

    @property
    def _declared(self) -> bool:
        if not isinstance(self.family, str):
            return True
        needs = FAMILIES[self.family].needs
        return all(getattr(self, name) is not None for name in needs)


class ParameterSpace(Mapping[str, Parameter]):
    """An ordered, immutable mapping from names to `Parameter`s.

    A space with vectors says how long they are by `sized`, once, before coordinates or priors are
    made of it.

    **Raises** `ValueError`, naming the parameter and the value, for bounds out of order or NaN, a
    family that is none of `FAMILIES` and no `Distribution`, mu or sigma missing or not wanted,
    sigma ≤ 0, and a prior that its bounds make impossible.

    Examples:
        >>> from scalejax import Parameter, ParameterSpace
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
        self._sizes = dict(mapping.sizes) if isinstance(mapping, ParameterSpace) else {}

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
        sizes = ", ".join(f"{dim}={size}" for dim, size in self._sizes.items())
        return f"ParameterSpace(\n{''.join(lines)})" + (f".sized({sizes})" if sizes else "")

    def sized(self, **sizes: int) -> ParameterSpace:
        """This space, with the length of each named dimension.

        **Raises** `ValueError` for a dimension that no parameter has, and a size below 1.

        Examples:
            >>> from scalejax import Parameter, ParameterSpace
            >>> space = ParameterSpace(contrast=Parameter(0, 1, dim="phi")).sized(phi=23)
            >>> space.sizes, space.groups[0].shape
            ({'phi': 23}, (23,))
        """
        dims = {p.dim for p in self.values() if p.dim is not None}
        for dim, size in sizes.items():
            if dim not in dims:
                known = ", ".join(sorted(dims)) or "(none)"
                raise ValueError(f"sized: {dim!r} is none of the dimensions {known}")
            if isinstance(size, bool) or not hasattr(size, "__index__") or size < 1:
                raise ValueError(f"sized: {dim} must be a whole number from 1 on; got {size!r}")
        result = ParameterSpace(self)
        result._sizes |= {dim: int(size) for dim, size in sizes.items()}
        for name, p in result.items():
            expected = result._sizes.get(p.dim or "")
            for field, values in (("initial", p.initial), ("fixed", p.fixed)):
                if isinstance(values, tuple) and expected not in (None, len(values)):
                    raise ValueError(
                        f"parameter {name!r}: {field} has {len(values)} values, where "
                        f"{p.dim} = {expected}"
                    )
        return result

    @property
    def sizes(self) -> dict[str, int]:
        """The lengths that `sized` has set, by dimension."""
        return dict(self._sizes)

    @property
    def groups(self) -> tuple[Group, ...]:
        """A group for each parameter, in order.

        **Raises** `ValueError` for a dimension without a size.
        """
        return tuple(
            Group(name, self._size(name), p.dim, None if p.kind is None else as_kind(p.kind))
            for name, p in self.items()
        )

    @property
    def parts(self) -> list[tuple[str, Parameter, int]]:
        """Stretches of θ with one declaration, in order: name, parameter and how many elements.

        A group is one of them, or, where its elements are pinned at a value each, each of these.

        Examples:
            >>> from scalejax import Parameter, ParameterSpace
            >>> pinned = Parameter(0.0, 1.0, fixed=(0.05, 0.06), dim="phi")
            >>> space = ParameterSpace(contrast=pinned, offset=Parameter(0.5, 1.5, dim="phi"))
            >>> [(name, p.low, width) for name, p, width in space.sized(phi=2).parts]
            [('contrast', 0.05, 1), ('contrast', 0.06, 1), ('offset', 0.5, 2)]
        """
        result = []
        for group, (name, p) in zip(self.groups, self.items(), strict=True):
            if p.fixed is None:
                result.append((name, p, group.width))
                continue
            for value in p.fixed:
                result.append((name, replace(p, low=value, high=value, fixed=None), 1))
        return result

    def _size(self, name: str) -> int | None:
        dim = self[name].dim
        if dim is not None and dim not in self._sizes:
            raise ValueError(
                f"parameter {name!r} is a vector along {dim!r}: say how long, as "
                f"space.sized({dim}=23)"
            )
        return None if dim is None else self._sizes[dim]

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
    _check_fixed(name, p)
    for value in () if p.initial is None else values:
        _require(
            name,
            p.low <= _float(name, "initial", value) <= p.high,
            f"initial must be within [{p.low}, {p.high}]",
            f"initial = {value}",
        )
    _check_prior(name, p)
    return p


def _check_fixed(name: str, p: Parameter) -> None:
    if p.fixed is None:
        return
    _require(
        name,
        p.dim is not None and isinstance(p.fixed, tuple),
        "fixed must have a value for each element along a dim",
        f"fixed = {p.fixed}, dim = {p.dim!r}",
    )
    for value in p.fixed:
        _require(
            name,
            p.low <= _float(name, "fixed", value) <= p.high,
            f"fixed must be within [{p.low}, {p.high}]",
            f"fixed = {value}",
        )


def _check_prior(name: str, p: Parameter) -> None:
    mu, sigma = p.mu, p.sigma
    if p.kind is not None:
        try:
            as_kind(p.kind)
        except ValueError as error:
            raise ValueError(f"parameter {name!r}: {error}") from None
    if isinstance(p.family, str):
        known = p.family in FAMILIES
        _require(name, known, f"family must be one of {', '.join(FAMILIES)}", repr(p.family))
        needs = FAMILIES[p.family].needs
        given = tuple(n for n, value in (("mu", mu), ("sigma", sigma)) if value is not None)
        wanted = " and ".join(needs) or "neither mu nor sigma"
        both = "both " if len(needs) == 2 else ""
        _require(
            name,
            given in ((), needs),
            f"a {p.family} prior needs {both}{wanted}",
            f"mu = {mu}, sigma = {sigma}",
        )
    else:
        own = isinstance(p.family, Distribution)
        words = "family must be a name, or an object with logpdf and ppf"
        _require(name, own, words, repr(p.family))
        none = mu is None and sigma is None
        words = "a family of one's own has its numbers itself"
        _require(name, none, words, f"mu = {mu}, sigma = {sigma}")
    if mu is not None:
        _require(name, math.isfinite(mu), "mu must be finite", f"mu = {mu}")
    if sigma is not None:
        positive = 0 < sigma < math.inf
        _require(name, positive, "sigma must be positive and finite", f"sigma = {sigma}")
    if (prior := p.prior) is None:
        return
    where = f"({prior.low}, {prior.high})"
    _require(name, prior.low < prior.high, "the prior must have room within the bounds", where)
    for expected, got in problems(prior):
        _require(name, False, expected, got)


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
