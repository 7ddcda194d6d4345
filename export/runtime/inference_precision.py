"""The precision that an OpenVINO model computes in, written into the model itself: its file says how it runs."""

from typing import Any

KEY = ["pcb_defect_detector", "inference_precision"]
FP32, BF16 = "f32", "bf16"


def write_inference_precision(model: Any, precision: str) -> None:  # noqa: ANN401
    """Marks an OpenVINO model, before it is saved."""
    model.set_rt_info(precision, KEY)


def read_inference_precision(model: Any) -> str:  # noqa: ANN401
    """OpenVINO's name of the precision; fp32 where nothing is said, also on machines whose default is another."""
    return str(model.get_rt_info(KEY).value) if model.has_rt_info(KEY) else FP32
