"""What a TensorRT plan is built from, stated once; the Python API and trtexec both build from it."""

from dataclasses import dataclass
from pathlib import Path

from export.tensorrt.precision import Method
from export.tensorrt.profiles import Profile

PLAN_SUFFIX, LOG_SUFFIX = ".plan", ".build.log"
LOG_TAIL_LINES = 20


@dataclass(frozen=True)
class Switches:
    """What the user decides; the defaults give the fastest plan for this GPU and this TensorRT only."""

    hardware_compatible: bool = False  # the plan runs on Ampere and every newer GPU, up to some tens of percent slower
    version_compatible: bool = False  # the plan runs in later TensorRT versions too; Triton must be told to allow it
    timing_cache: Path | None = None  # measured kernel times, read and written: the next build takes minutes less

    @property
    def used(self) -> dict[str, bool | str]:
        """Those that differ from the default, as the manifest states them."""
        chosen = {name: value for name, value in vars(self).items() if value}
        return {name: value.name if isinstance(value, Path) else value for name, value in chosen.items()}


NO_SWITCHES = Switches()


@dataclass(frozen=True)
class PlanOptions:
    """How to build the plan of one graph."""

    max_batch_size: int  # of the Triton model
    image_tokens: int = 0  # of a tile; only the generator's decoder is shaped by it
    switches: Switches = NO_SWITCHES
    method: Method = "entropy"  # how int8 and fp8 ranges are found
    keep: tuple[str, ...] = ()  # nodes that stay in fp32


@dataclass(frozen=True)
class PlanDescription:
    """One build: files, precision and shapes, for TensorRT of one major version."""

    graph: Path
    plan: Path
    precision: str
    profiles: tuple[Profile, ...]
    tensorrt_major: int
    options: PlanOptions
    fp32_layers: tuple[str, ...] = ()  # TensorRT 8 only, which otherwise chooses each layer's precision itself

    @property
    def log(self) -> Path:
        """Where the builder's log is written, beside the plan."""
        return self.plan.with_suffix(LOG_SUFFIX)

    def log_tail(self) -> str:
        """The end of that log, where a builder that failed says why."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:])
