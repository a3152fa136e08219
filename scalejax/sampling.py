"""How long and how to sample, by what a calibration found. It knows no sampler and no model."""

from __future__ import annotations

from dataclasses import dataclass, replace

from scalejax.calibrate.report import CoordinatesKind, Report


@dataclass(frozen=True)
class Sampling:
    """How long and how to sample; None is left to what calibration finds (see `settled`)."""

    chains: int = 4
    warmup: int | None = None
    samples: int = 1000
    target_accept: float | None = None
    dense_mass: bool | None = None
    adapt_mass: bool | None = None
    seed: int = 0

    def settled(self, report: Report | None) -> Sampling:
        """With a value for what is None, by the report of a calibration, or None without one.

        After a good calibration the posterior is close to a standard normal: little is to be
        adapted. After a rough one it still has narrow bends, which take small steps. Where
        calibration has taken the correlations, estimating them once more adds noise: the mass
        matrix is diagonal then, and dense where they are still there. In good nested coordinates it
        is the identity: the widths are what they should be, and an estimate of a few hundred draws
        lets a long tail make steps too long elsewhere. Where a linear fit is next to the posterior
        itself it is the identity too, steps are as long as NUTS takes them on any normal, and a few
        draws find how long that is.
        """
        kind = CoordinatesKind.NONE if report is None else report.kind
        good = report is not None and report.good
        close = report is not None and report.close
        # Where a posterior was bent, narrow places are left far out, which take shorter steps.
        accepted = {CoordinatesKind.NESTED: 0.98, CoordinatesKind.NONE: 0.9}
        default = Sampling(
            warmup=150 if close else 300 if good else 1000,
            target_accept=0.8 if close else accepted.get(kind, 0.9 if good else 0.95),
            dense_mass=kind in (CoordinatesKind.NONE, CoordinatesKind.DIAGONAL),
            adapt_mass=not (close or (good and kind is CoordinatesKind.NESTED)),
        )
        return replace(
            default, **{name: value for name, value in vars(self).items() if value is not None}
        )
