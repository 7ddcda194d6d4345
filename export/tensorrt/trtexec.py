"""Builds a plan with NVIDIA's command trtexec, which TensorRT's containers and JetPack bring without the Python API.

Option names are those of samples/common/sampleOptions.cpp in TensorRT 8.5.1, 10.16 and 11.1.
"""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from export.runtime.error import EngineError
from export.tensorrt.plan import PlanDescription
from export.tensorrt.profiles import Profile

FOLDERS = (Path("/usr/src/tensorrt/bin"), Path("/opt/tensorrt/bin"))  # where NVIDIA's packages put it
SAYS = {
    "tensorrt": re.compile(r"TensorRT version: (\S+)"),
    "gpu": re.compile(r"Selected Device: (.+)"),
    "compute_capability": re.compile(r"Compute Capability: (\S+)"),
}


def find_trtexec() -> Path | None:
    """The trtexec on PATH or in NVIDIA's folders."""
    found = shutil.which("trtexec") or next(
        (path for folder in FOLDERS if (path := folder / "trtexec").is_file()), None
    )
    return Path(found) if found else None


def major_version(trtexec: Path) -> int:
    """The major TensorRT version of a trtexec, from the first line that it prints.

    Raises:
        EngineError: it prints something else.
    """
    printed = subprocess.run([trtexec, "--help"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    found = re.search(r"\[TensorRT v(\d+)\]", printed)
    if found is None:
        raise EngineError(f"{trtexec} does not say which TensorRT it belongs to; it printed {printed[:200]!r}")
    number = int(found[1])  # 8503 is 8.5.3 and 110100 is 11.1.0
    return number // 10_000 if number >= 100_000 else number // 1000


def command(description: PlanDescription) -> list[str]:
    """The arguments of trtexec that build a plan and do nothing else."""
    switches = description.options.switches
    arguments = [
        f"--onnx={description.graph}",
        f"--saveEngine={description.plan}",
        "--verbose",
    ]
    if switches.timing_cache:
        arguments.append(f"--timingCacheFile={switches.timing_cache}")
    if description.precision == "fp32":
        arguments.append("--noTF32")
    if description.tensorrt_major < 10:
        arguments += ["--buildOnly", *_flags_of_8(description), *_shapes(description.profiles[0])]
        return arguments
    arguments.append("--skipInference")
    if description.tensorrt_major == 10:  # in 11 every network is strongly typed and the option is deprecated
        arguments.append("--stronglyTyped")
    if switches.hardware_compatible:
        arguments.append("--hardwareCompatibilityLevel=ampere+")
    if switches.version_compatible:
        arguments.append("--versionCompatible")
    for index, profile in enumerate(description.profiles):
        arguments += [f"--profile={index}", *_shapes(profile)]
    return arguments


def build_with_trtexec(trtexec: Path, description: PlanDescription) -> dict[str, str]:
    """Runs trtexec, keeps its log, and returns the TensorRT version and the GPU that it names there.

    Raises:
        EngineError: it failed; the end of its log is in the message.
    """
    with description.log.open("w", encoding="utf-8") as log:
        code = subprocess.run(  # noqa: S603
            [trtexec, *command(description)], stdout=log, stderr=subprocess.STDOUT, check=False
        ).returncode
    text = description.log.read_text(encoding="utf-8", errors="replace")
    if code or not description.plan.is_file():
        raise EngineError(
            f"trtexec ended with code {code} and no usable plan of {description.graph.name}; its log ends:\n"
            f"{description.log_tail()}"
        )
    return {"tool": "trtexec"} | {key: found[1].strip() for key, says in SAYS.items() if (found := says.search(text))}


def _flags_of_8(description: PlanDescription) -> list[str]:
    flags = {"fp32": [], "fp16": ["--fp16"], "int8": ["--int8", "--fp16"]}[description.precision]
    if flags and description.fp32_layers:
        layers = ",".join(f"{name}:fp32" for name in description.fp32_layers)
        flags = [*flags, "--precisionConstraints=obey", f"--layerPrecisions={layers}"]
    return flags


def _shapes(profile: Profile) -> list[str]:
    return [
        f"--{kind}Shapes={_spec({name: side[index] for name, side in profile.items()})}"
        for index, kind in enumerate(("min", "opt", "max"))
    ]


def _spec(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())
