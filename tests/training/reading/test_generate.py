import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import training.reading.decoding
import training.reading.generate
from training.data.dataset import DatasetError
from training.network.checkpoint import load_checkpoint
from training.network.tokenizer import encode_batch
from training.reading.decoding import Decoding
from training.reading.generate import MAX_TOKENS, Grammar, _window_mass, generate, generate_outlines


def test_grammar_allows_labels_with_four_locations_each(tiny_checkpoint: Path) -> None:
    network, tokenizer, _ = load_checkpoint(tiny_checkpoint)
    grammar = Grammar(network, tokenizer, torch.tensor([False]))
    text = tokenizer.encode("open", add_special_tokens=False).ids[0]
    location = tokenizer.token_to_id("<loc_5>")

    def may(token: int) -> bool:
        return bool(grammar.allowed()[0, token])

    assert (may(text), may(location), may(grammar.eos)) == (True, False, True)
    grammar.advance(torch.tensor([text]))
    assert (may(text), may(location), may(grammar.eos)) == (True, True, False)
    for _ in range(3):
        grammar.advance(torch.tensor([location]))
        assert (may(text), may(location), may(grammar.eos)) == (False, True, False)
    grammar.advance(torch.tensor([location]))
    assert (may(text), may(location), may(grammar.eos)) == (True, False, True)
    grammar.advance(torch.tensor([grammar.eos]))
    assert grammar.allowed()[0].nonzero().flatten().tolist() == [grammar.pad]


def test_generate_gives_whole_boxes_within_the_tile(tiny_checkpoint: Path) -> None:
    """Random weights babble: whatever they say must parse."""
    network, tokenizer, _ = load_checkpoint(tiny_checkpoint)
    image = torch.randint(0, 256, (3, 128, 128, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    features = network.image_features(network.normalise(image))
    answers = generate(network, tokenizer, features, ["find open", "寻找短路", "find all defects"])
    assert len(answers) == 3
    for answer in answers:
        assert len(answer.labels) == len(answer.scores) == len(answer.boxes_xyxy) <= MAX_TOKENS // 5
        assert ((answer.boxes_xyxy > 0) & (answer.boxes_xyxy < 1)).all()
        assert ((answer.scores > 0) & (answer.scores <= 1)).all()


def test_generate_answers_do_not_depend_on_the_batch(tiny_checkpoint: Path) -> None:
    network, tokenizer, _ = load_checkpoint(tiny_checkpoint)
    image = torch.randint(0, 256, (2, 128, 128, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    features = network.image_features(network.normalise(image))
    prompts = ["find open", "a much longer prompt that makes the first one be padded"]
    together = generate(network, tokenizer, features, prompts)
    alone = generate(network, tokenizer, features[:1], prompts[:1])
    assert together[0].labels == alone[0].labels
    np.testing.assert_allclose(together[0].boxes_xyxy, alone[0].boxes_xyxy)


def test_a_location_counts_each_neighbour_once_even_at_the_end_of_the_vocabulary() -> None:
    probabilities = torch.zeros(1, 30)
    probabilities[0, -3:] = torch.tensor([0.1, 0.2, 0.7])  # <loc_997> .. <loc_999>
    is_location = torch.arange(30) >= 10
    mass = _window_mass(probabilities, torch.tensor([29]), is_location)
    torch.testing.assert_close(mass, torch.tensor([1.0]))


def test_grammar_of_an_outline_allows_pairs_of_locations_three_to_sixteen(tiny_checkpoint: Path) -> None:
    network, tokenizer, _ = load_checkpoint(tiny_checkpoint)
    grammar = Grammar(network, tokenizer, torch.tensor([True, False]))
    text = tokenizer.encode("open", add_special_tokens=False).ids[0]
    location = tokenizer.token_to_id("<loc_5>")
    for count in range(33):
        allowed = grammar.allowed()[0]
        assert not allowed[text]
        assert bool(allowed[location]) == (count < 32)
        assert bool(allowed[grammar.eos]) == (count % 2 == 0 and count >= 6)
        if count < 32:
            grammar.advance(torch.tensor([location, text]))
    grammar.advance(torch.tensor([grammar.eos, text]))
    assert grammar.allowed()[0].nonzero().flatten().tolist() == [grammar.pad]
    assert grammar.allowed()[1, text]


def test_outlines_of_regions_are_points_in_the_tile_and_do_not_depend_on_the_batch(tiny_checkpoint: Path) -> None:
    network, tokenizer, _ = load_checkpoint(tiny_checkpoint)
    torch.manual_seed(1)
    network.add_box_slots()  # of no account for outlines
    image = torch.randint(0, 256, (3, 128, 128, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    features = network.image_features(network.normalise(image))
    regions = np.array([[0.1, 0.1, 0.4, 0.4], [0, 0, 1, 1], [0.5, 0.6, 0.7, 0.9]], np.float32)
    outlines = generate_outlines(network, tokenizer, features, regions)
    assert len(outlines) == 3
    for row, outline in enumerate(outlines):
        assert outline.shape[1] == 2
        assert 3 <= len(outline) <= 16
        low, high = regions[row, :2], regions[row, 2:]
        room = 0.125 * (high - low) + 0.002  # bins are whole
        assert ((outline >= low - room) & (outline <= high + room)).all()
        alone = generate_outlines(network, tokenizer, features[row : row + 1], regions[row : row + 1])
        np.testing.assert_array_equal(alone[0], outline)
    assert generate_outlines(network, tokenizer, features[:0], regions[:0]) == []


def test_an_outline_goes_on_while_all_places_together_are_likelier_than_its_end(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of 1,000 locations is far less likely than the end, which has less than a half."""
    network, tokenizer, _ = load_checkpoint(tiny_checkpoint)
    end, first = tokenizer.token_to_id("</s>"), network.config.location_token_id

    def points(end_logit: float) -> int:
        logits = torch.full((1, 1, network.config.text_config.vocab_size), -100.0)
        logits[..., first : first + 1000] = 0
        logits[..., end] = end_logit
        monkeypatch.setattr(Decoding, "step", lambda _, embeds: logits.expand(1, embeds.shape[1], -1))
        monkeypatch.setattr(Decoding, "keep", lambda *_: None)
        features = torch.zeros(1, 65, network.config.text_config.d_model)
        (outline,) = generate_outlines(network, tokenizer, features, np.array([[0.1, 0.1, 0.2, 0.2]], np.float32))
        return len(outline)

    assert points(math.log(900)) == 16
    assert points(math.log(1100)) == 3


def test_prompts_that_are_too_long_are_refused(tiny_checkpoint: Path) -> None:
    """Beyond these the encoder has no positions."""
    network, tokenizer, _ = load_checkpoint(tiny_checkpoint)
    features = torch.zeros(2, 65, network.config.text_config.d_model)
    with pytest.raises(DatasetError, match="zzz"):
        generate(network, tokenizer, features, ["find open", "z" * 200])


def test_what_is_made_on_the_way_lies_where_the_network_lies(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is made without saying where lies on another device here, and cannot be mixed with the network's."""
    network, tokenizer, _ = load_checkpoint(tiny_checkpoint)
    torch.manual_seed(1)
    network.add_box_slots()
    image = torch.randint(0, 256, (2, 128, 128, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    features = network.image_features(network.normalise(image))
    regions = np.array([[0.1, 0.1, 0.4, 0.4], [0, 0, 1, 1]], np.float32)

    def on_the_host(*arguments: Any) -> tuple[torch.Tensor, ...]:  # noqa: ANN401
        with torch.device("cpu"):
            return encode_batch(*arguments)

    monkeypatch.setattr(training.reading.decoding, "encode_batch", on_the_host)
    monkeypatch.setattr(training.reading.generate, "MAX_TOKENS", 12)
    with torch.device("meta"):
        assert len(generate(network, tokenizer, features, ["find open", "a longer prompt"])) == 2
        assert len(generate_outlines(network, tokenizer, features, regions)) == 2


def test_prompts_are_moved_to_the_network(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, tokenizer, _ = load_checkpoint(tiny_checkpoint)
    network.to("meta")
    encoder = network.model.language_model.encoder  # which looks at the mask's values, and this device has none
    encoded = SimpleNamespace(last_hidden_state=None)
    monkeypatch.setattr(type(encoder), "forward", lambda *_, **__: encoded)
    features = torch.zeros(2, 65, network.config.text_config.d_model, device="meta")
    decoding = Decoding(network, tokenizer, features, ["find open", "a longer prompt"])
    assert {own.device.type for own in vars(decoding).values() if isinstance(own, torch.Tensor)} == {"meta"}
