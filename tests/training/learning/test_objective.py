import math
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from tests.training.networks import small_network
from training.learning.objective import answer_somewhere, grounding_terms, language_term, slot_term
from training.learning.targets import IGNORED, GenerativeBatch, GroundingPrompts, Positives, decoder_inputs
from training.network.modeling_florence2_grounding import Florence2ForGrounding
from training.network.tokenizer import train_tokenizer
from training.prompts import corpus

PROMPTS = GroundingPrompts(["scratch", "a scratch along the edge"], [0, "a scratch along the edge"])


def weighed(sparse: list[tuple[str, ...]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Targets and weights (2 images, 3 tokens, 2 prompts) after sparse labels; the second token is the best."""
    logits = torch.tensor([[[0.0, 0.0], [0.0, 2.0], [0.0, 1.0]]]).repeat(2, 1, 1)
    targets, weights = torch.zeros_like(logits), torch.ones_like(logits)
    answer_somewhere(logits, targets, weights, PROMPTS, sparse)
    return targets, weights


def test_the_best_token_of_an_image_answers_its_sparse_label_and_nothing_else_is_known_of_it() -> None:
    targets, weights = weighed([("a scratch along the edge",), ()])
    assert targets[0].tolist() == [[0, 0], [0, 1], [0, 0]]
    assert weights[0].tolist() == [[0, 0], [0, 1], [0, 0]]
    assert targets[1].sum() == 0
    assert weights[1].min() == 1


@pytest.mark.parametrize("sparse", [[("something that is not asked",), ()]])
def test_an_image_whose_sparse_label_is_not_asked_teaches_nothing(sparse: list[tuple[str, ...]]) -> None:
    targets, weights = weighed(sparse)
    assert targets[0].sum() == 0
    assert weights[0].sum() == 0


@pytest.mark.parametrize(("class_weights", "expected"), [(None, 0.625), ([1.0, 1.0], 0.625), ([1.0, 3.0], 0.875)])
def test_a_token_counts_as_its_class_is_weighted(class_weights: list[float] | None, expected: float) -> None:
    """Four tokens, two prompts, all scores 0.5: a right answer costs ln 2 / 16, a wrong one 3 ln 2 / 16.

    Two right and six wrong ones are 20 / 16 for two positive tokens; the second one's row is 4 / 16 and counts thrice.
    """
    network = small_network()
    with torch.no_grad():
        network.grounding.match_scale.zero_()
        network.grounding.match_bias.zero_()
    boxes = torch.tensor([[0.5, 0.0, 1.0, 0.5], [0.0, 0.5, 0.5, 1.0]])
    found = Positives(torch.tensor([0, 0]), torch.tensor([1, 2]), torch.tensor([0, 1]), boxes, torch.ones(2), [(), ()])
    prompts = GroundingPrompts(["scratch", "short"], [0, 1])
    weights = None if class_weights is None else torch.tensor(class_weights)
    match, _, _ = grounding_terms(
        network, torch.rand(1, 4, 32), prompts, torch.rand(2, 32), found, [()], sigma=5.0, class_weights=weights
    )
    assert match.item() == pytest.approx(expected * math.log(2))


def test_boxes_of_a_picture_with_sparse_labels_make_the_others_count_no_less() -> None:
    network = small_network()
    box = torch.tensor([[0.5, 0.0, 1.0, 0.5]])
    prompts, states, embeddings = GroundingPrompts(["scratch"], [0]), torch.rand(2, 4, 32), torch.rand(1, 32)

    def match(images: int) -> float:
        rows = torch.arange(images)
        found = Positives(
            rows,
            torch.ones_like(rows),
            torch.zeros_like(rows),
            box.repeat(images, 1),
            torch.ones(images),
            [()] * images,
        )
        sparse = [(), ("a scratch along the edge",)][:images]  # of the second, which nobody asks for
        return grounding_terms(network, states[:images], prompts, embeddings, found, sparse, sigma=5.0)[0].item()

    assert match(2) == pytest.approx(match(1))


def test_tokens_count_as_they_are_weighed_in_all_three_losses() -> None:
    """As above, but the second token's row, 4 / 16, and its place below the line count a third."""
    network = small_network()
    with torch.no_grad():
        network.grounding.match_scale.zero_()
        network.grounding.match_bias.zero_()
    boxes = torch.tensor([[0.5, 0.0, 1.0, 0.5], [0.1, 0.4, 0.9, 1.0]])
    prompts, states = GroundingPrompts(["scratch", "short"], [0, 1]), torch.rand(1, 4, 32)

    def terms(chosen: list[int], weights: list[float]) -> list[float]:
        rows = torch.tensor(chosen)
        found = Positives(
            torch.tensor([0, 0])[rows],
            torch.tensor([1, 2])[rows],
            torch.tensor([0, 1])[rows],
            boxes[rows],
            torch.tensor(weights),
            [()] * len(chosen),
        )
        torch.manual_seed(0)
        return [
            term.item() for term in grounding_terms(network, states, prompts, torch.rand(2, 32), found, [()], sigma=5.0)
        ]

    match, giou, location = terms([0, 1], [1.0, 1 / 3])
    assert match == pytest.approx((6 + 6 + 4 + 4 / 3) / 16 / (4 / 3) * math.log(2))
    apart = terms([0], [1.0]), terms([1], [1.0])
    assert giou == pytest.approx(0.75 * apart[0][1] + 0.25 * apart[1][1])
    assert location == pytest.approx(0.75 * apart[0][2] + 0.25 * apart[1][2])


def asked(labels: Tensor) -> tuple[Florence2ForGrounding, Tensor, GenerativeBatch, Tokenizer]:
    """A network, features (G, 65, 32) of pictures, the answers (G, T) to a prompt of words, and a tokenizer."""
    prompt = torch.tensor([[0, 50, 60, 2]]).repeat(len(labels), 1)
    features = torch.randn(len(labels), 65, 32, generator=torch.Generator().manual_seed(0))
    batch = GenerativeBatch(prompt, torch.ones_like(prompt), labels)
    return small_network(), features, batch, train_tokenizer(corpus(), 600)


def test_language_loss_is_torchs_cross_entropy_where_a_location_is_one_bin() -> None:
    """Every token of the answers counts alike, those behind their ends not at all."""
    labels = torch.tensor([[0, 50, 110, 120, 130, 140, 2], [0, 60, 70, 2, *[IGNORED] * 3]])
    network, features, batch, tokenizer = asked(labels)
    loss = language_term(network, features, batch, tokenizer, sigma=0.01)
    logits = network(
        inputs_embeds=torch.cat([features, network.get_input_embeddings()(batch.input_ids)], 1),
        attention_mask=torch.ones(2, 69, dtype=torch.int64),
        decoder_input_ids=decoder_inputs(labels, tokenizer),
    ).logits
    reference = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
    torch.testing.assert_close(loss, reference)


def test_language_loss_of_a_hand_computed_case() -> None:
    """Four tokens, told at even odds of 1,100 but for <loc_30>, e times as likely; its neighbours share its target."""
    labels = torch.tensor([[0, 50, 130, 2]])
    network, features, batch, tokenizer = asked(labels)
    network.lm_head = nn.Linear(32, 1100)
    with torch.no_grad():
        network.lm_head.weight.zero_()
        network.lm_head.bias.zero_()[130] = 1.0
    beside = [math.exp(-0.5 * distance**2) for distance in range(1, 31)]  # of the density at <loc_30>, sigma being 1
    share = 1 / (1 + 2 * sum(beside))  # of the target on <loc_30> itself
    expected = math.log(1099 + math.e) - share / 4
    loss = language_term(network, features, batch, tokenizer, sigma=1.0)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


class Said(nn.Module):
    """A decoder that says even odds for everything, but one half for <loc_30> in the fifth place."""

    def __init__(self, embed_tokens: nn.Module) -> None:
        super().__init__()
        self.embed_tokens = embed_tokens
        self.inputs_embeds = torch.empty(0)

    def forward(self, inputs_embeds: Tensor, **_: object) -> SimpleNamespace:
        self.inputs_embeds = inputs_embeds
        logits = torch.zeros(*inputs_embeds.shape[:2], 1100)
        logits[:, 4, 130] = math.log(1099)
        return SimpleNamespace(last_hidden_state=logits)


def test_slots_are_judged_by_the_x2_and_y2_of_a_box_cut_behind_its_x1() -> None:
    network, tokenizer = small_network(), train_tokenizer(corpus(), 600)
    network.add_box_slots()
    language_model = network.model.language_model
    language_model.decoder = said = Said(language_model.decoder.embed_tokens)
    network.lm_head = nn.Identity()
    # <s> label <loc_10> <loc_20> <loc_30> <loc_40> </s>; the second answer has no box and counts for nothing.
    labels = torch.tensor([[0, 50, 110, 120, 130, 140, 2], [0, 2, *[IGNORED] * 5]])
    states, mask = torch.zeros(2, 3, 32), torch.ones(2, 3)
    loss = slot_term(network, states, mask, labels, tokenizer, sigma=0.01)  # so narrow that one bin is right
    assert loss.item() == pytest.approx((math.log(2) + math.log(1100)) / 2)
    fed = said.embed_tokens(torch.tensor([[2, 0, 50, 110]]))
    assert network.box_slots is not None
    torch.testing.assert_close(said.inputs_embeds[:, :4], fed)
    torch.testing.assert_close(said.inputs_embeds[0, 4:6], network.box_slots.data)
    assert slot_term(network, states, mask, labels[1:], tokenizer, sigma=5.0) == 0


def test_a_network_without_slots_is_not_judged_by_them() -> None:
    labels = torch.tensor([[0, 50, 110, 120, 130, 140, 2]])
    tokenizer = train_tokenizer(corpus(), 600)
    assert slot_term(small_network(), torch.zeros(1, 3, 32), torch.ones(1, 3), labels, tokenizer, sigma=5.0) == 0


def test_slots_learn_nothing_from_outlines() -> None:
    """The same locations behind a prompt of words and behind a region."""
    network, tokenizer = small_network(), train_tokenizer(corpus(), 600)
    features = torch.randn(1, 65, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0, 110, 120, 130, 140, 150, 160, 150, 170, 140, 180, 2]])
    for prompt, learns in (([0, 50, 2], True), ([0, 101, 102, 103, 104, 2], False)):
        batch = GenerativeBatch(torch.tensor([prompt]), torch.ones(1, len(prompt), dtype=torch.int64), labels)
        network.box_slots = None
        plain = language_term(network, features, batch, tokenizer, sigma=5.0)
        network.add_box_slots()
        assert (language_term(network, features, batch, tokenizer, sigma=5.0) > plain) == learns


def test_the_region_of_an_outline_is_given_and_not_learned() -> None:
    """Other locations of the region count for nothing by themselves: a decoder that says even odds for all it reads."""
    network, tokenizer = small_network(), train_tokenizer(corpus(), 600)
    network.lm_head = nn.Linear(32, 1100)
    nn.init.zeros_(network.lm_head.weight)
    nn.init.zeros_(network.lm_head.bias)
    with torch.no_grad():
        network.lm_head.bias[105] = math.log(1000)  # far from every point
    features = torch.randn(1, 65, 32, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(1, 6, dtype=torch.int64)

    def loss(region: list[int]) -> float:
        labels = torch.tensor([[0, *region, 900, 910, 920, 930, 940, 950, 2]])
        prompt = torch.tensor([[0, *region, 2]])
        return language_term(network, features, GenerativeBatch(prompt, mask, labels), tokenizer, sigma=0.1).item()

    assert loss([105] * 4) == pytest.approx(loss([500, 510, 520, 530]))
