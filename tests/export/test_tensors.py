import pytest

from export.contract.tensors import (
    DETECTOR,
    MODELS,
    PROMPT_BUCKETS,
    PROMPT_ENCODER,
    ContractError,
    Dimensions,
    ModelSpec,
    bucket,
    match,
)

DIMENSIONS = Dimensions(tile=256, embedding=192, boxes=100)
Served = dict[str, tuple[str, list[int]]]


def served(spec: ModelSpec) -> tuple[Served, Served]:
    inputs, outputs = (
        {tensor.name: (str(tensor.dtype), tensor.dims(DIMENSIONS)) for tensor in side}
        for side in (spec.inputs, spec.outputs)
    )
    return inputs, outputs


@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.name)
def test_match_accepts_what_the_contract_renders(spec: ModelSpec) -> None:
    sizes = match(spec, *served(spec))
    assert all(sizes[name] == value for name, value in vars(DIMENSIONS).items() if name in sizes)


def test_match_names_every_difference() -> None:
    inputs, outputs = served(DETECTOR)
    inputs["IMAGE"] = ("FP32", [256, 256, 3])
    del inputs["PROMPT_EMBEDDINGS"]
    outputs["BOXES"] = ("FP32", [100, 5])
    outputs["MASKS"] = ("FP32", [1])
    with pytest.raises(ContractError) as error:
        match(DETECTOR, inputs, outputs)
    for name in ("IMAGE", "PROMPT_EMBEDDINGS", "BOXES", "MASKS"):
        assert name in str(error.value)


def test_match_requires_both_models_to_agree_on_the_embedding() -> None:
    sizes = match(DETECTOR, *served(DETECTOR))
    inputs, _ = served(PROMPT_ENCODER)
    with pytest.raises(ContractError, match="PROMPT_EMBEDDINGS"):
        match(PROMPT_ENCODER, inputs, {"PROMPT_EMBEDDINGS": ("FP32", [768])}, sizes)


def test_bucket_is_the_smallest_that_holds() -> None:
    assert [bucket(size, PROMPT_BUCKETS, "prompts") for size in (1, 16, 17, 64)] == [16, 16, 64, 64]
    with pytest.raises(ContractError, match="65"):
        bucket(65, PROMPT_BUCKETS, "prompts")
