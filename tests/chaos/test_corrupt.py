"""Trial 10 wants the cause of a damaged repository, not any failure of the same model."""

from tests.chaos.corrupt import CASES, names_cause

SAID = """I1129 model_lifecycle.cc:472] "loading: prompt_encoder:1"
E1129 model_lifecycle.cc:642] "failed to load 'detector' version 1: EngineError: Incorrect weights in bin file!"
error: creating server: Internal - failed to load all models
"""


def test_the_cause_is_named_beside_its_model() -> None:
    assert names_cause(SAID, CASES["weights cut"])


def test_another_cause_and_another_model_are_not_taken_for_it() -> None:
    assert not names_cause(SAID, CASES["graph cut"])
    assert not names_cause(SAID.replace("detector", "generator"), CASES["weights cut"])
    assert not names_cause("", CASES["weights cut"])
