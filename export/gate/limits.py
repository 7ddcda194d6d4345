"""What engines may differ from PyTorch by, one set of limits for each precision."""

from dataclasses import dataclass, fields
from pathlib import Path

import yaml

FILE = Path(__file__).with_name("limits.yaml")
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
NEED_LABELS = ("int8", "fp8")  # quantised: too coarse for outputs alone to say what is lost


class LimitsError(ValueError):
    """The file of the limits is not what is expected."""


@dataclass(frozen=True)
class Limits:
    """What an engine of a precision may differ from PyTorch by; limits.yaml says what each means."""

    max_error: float
    min_cosine: float
    batch_error: float
    box_agreement: float
    max_map_drop: float
    token_agreement: float


def read_limits(file: Path = FILE) -> dict[str, Limits]:
    """The limits of every precision.

    Raises:
        LimitsError: names every missing, unknown or unusable entry at once.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise LimitsError(f"{file} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise LimitsError(f"{file} holds {type(content).__name__}, expected a mapping of {', '.join(PRECISIONS)}")
    names = [field.name for field in fields(Limits)]
    faults = [f"{precision} is missing" for precision in PRECISIONS if precision not in content]
    faults += [f"{name!r} is no precision" for name in content if name not in PRECISIONS]
    for precision, values in content.items():
        if not isinstance(values, dict):
            faults.append(f"{precision} is {values!r}, expected a mapping of {', '.join(names)}")
            continue
        faults += [f"{precision}.{name} is missing" for name in names if name not in values]
        faults += [f"{precision}.{name} is unknown" for name in values if name not in names]
        faults += [
            f"{precision}.{name} is {value!r}, expected a number of 0 to 1"
            for name, value in values.items()
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1
        ]
    if faults:
        raise LimitsError(f"{file}: " + "; ".join(faults))
    return {precision: Limits(**values) for precision, values in content.items()}
