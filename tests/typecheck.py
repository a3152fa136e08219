"""What checks annotations in the tests: beartype, to which an int is a float as it is to Python."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))

# Where arrays are. What is plain data refuses wrong types in words of its own.
MODULES = tuple(
    f"scalejax.{name}"
    for name in (
        *("bounds", "calibrate", "checks", "coordinates", "density", "diagnostics", "numpyro"),
        *("plotting", "scaling", "whitened", "xpcs.correlation", "xpcs.homodyne", "xpcs.model"),
    )
)
