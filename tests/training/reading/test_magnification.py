import argparse

import pytest

from gateway.request.magnification import LEAST, MOST
from training.reading.magnification import magnification


@pytest.mark.parametrize("value", [LEAST, 1.0, MOST])
def test_a_command_takes_what_the_service_takes(value: float) -> None:
    assert magnification(str(value)) == value


@pytest.mark.parametrize("text", ["0", "-1", "0.24", str(MOST + 0.01), "nan", "inf", "once"])
def test_a_command_refuses_what_the_service_refuses(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"0\.25 to 4"):
        magnification(text)
