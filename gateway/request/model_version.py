"""X-Model-Version: which served version of the models looks, said by header or by the parameter `model_version`."""

import re

from fastapi import Request

from gateway.errors import ParameterError
from gateway.request.parameters import DetectParameters

HEADER = "X-Model-Version"
NUMBER = re.compile(r"[1-9][0-9]{0,8}")


def with_model_version(request: Request, parameters: DetectParameters) -> DetectParameters:
    """The parameters with the header's version in them.

    Raises:
        ParameterError: it is no number, or not the parameter's.
    """
    given = request.headers.get(HEADER)
    if given is None:
        return parameters
    if not NUMBER.fullmatch(given):
        raise ParameterError(f"{HEADER} is {given[:40]!r}, expected the number of a version, as in 3")
    if parameters.model_version not in (None, int(given)):
        raise ParameterError(
            f"{HEADER} is {given} and model_version is {parameters.model_version}; say one of them, or the same"
        )
    return parameters.model_copy(update={"model_version": int(given)})
