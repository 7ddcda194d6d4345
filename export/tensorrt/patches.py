"""What ModelOpt replaces in ONNX Runtime's quantiser, put back when it has done its work.

It replaces them for good, and ONNX Runtime's own int8 then fails in the same process.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from onnxruntime.quantization import base_quantizer, calibrate, qdq_quantizer, registry


@contextlib.contextmanager
def taken_back() -> Iterator[None]:
    """Within it ModelOpt may patch; afterwards everything is as before."""
    modules = (calibrate, base_quantizer, qdq_quantizer)
    classes = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    owners: list[Any] = [calibrate, *(kind for kind in classes if kind.__module__.startswith("onnxruntime."))]
    before = [dict(vars(owner)) for owner in owners]
    registries = [(known, dict(known)) for known in (registry.QDQRegistry, registry.QLinearOpsRegistry)]
    try:
        yield
    finally:
        for owner, attributes in zip(owners, before, strict=True):
            for name, value in attributes.items():
                if vars(owner)[name] is not value:
                    setattr(owner, name, value)
        for known, entries in registries:
            known.clear()
            known.update(entries)
