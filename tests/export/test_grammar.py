from pathlib import Path

import numpy as np
import pytest
import torch

from export.graphs.checkpoint import load_checkpoint as load_for_export
from export.graphs.generator_graphs import read_vocabulary
from export.runtime.grammar import OUTLINE, Grammar, Vocabulary, VocabularyError
from training.network.checkpoint import load_checkpoint
from training.reading.generate import Grammar as TrainingGrammar


def test_grammar_allows_what_trainings_grammar_allows(tiny_checkpoint: Path) -> None:
    network, tokenizer, _ = load_checkpoint(tiny_checkpoint)
    vocabulary = read_vocabulary(load_for_export(tiny_checkpoint))
    batch = 6
    ours, theirs = Grammar(vocabulary, batch), TrainingGrammar(network, tokenizer, torch.zeros(batch, dtype=torch.bool))
    rng = np.random.default_rng(0)
    kinds = np.zeros(2, dtype=int)
    for _ in range(60):
        expected = theirs.allowed().numpy()
        assert (ours.allowed() == expected[:, vocabulary.token_ids]).all()
        assert ours.allowed().sum() == expected.sum()
        # Any allowed token, but a location and the end as often as a text.
        weights = ours.allowed() * np.where(np.arange(len(vocabulary.token_ids)) == vocabulary.eos, 100.0, 1.0)
        chosen = np.array([rng.choice(len(row), p=row / row.sum()) for row in weights])
        kinds += [(chosen >= vocabulary.first_location).sum(), (chosen == vocabulary.eos).sum()]
        ours.advance(chosen)
        theirs.advance(torch.from_numpy(vocabulary.token_ids[chosen]))
        assert ours.done == bool(theirs.done.all())
    assert kinds.min() > 0


def test_grammar_of_an_outline_is_trainings(tiny_checkpoint: Path) -> None:
    network, tokenizer, _ = load_checkpoint(tiny_checkpoint)
    vocabulary = read_vocabulary(load_for_export(tiny_checkpoint))
    ours = Grammar(vocabulary, 1, OUTLINE)
    theirs = TrainingGrammar(network, tokenizer, torch.tensor([True]))
    for chosen in [*range(vocabulary.first_location, vocabulary.first_location + 32), vocabulary.eos, vocabulary.pad]:
        expected = theirs.allowed().numpy()
        assert (ours.allowed() == expected[:, vocabulary.token_ids]).all()
        assert ours.allowed()[0, chosen]
        ours.advance(np.array([chosen]))
        theirs.advance(torch.tensor([vocabulary.token_ids[chosen]]))
    assert ours.done


def test_a_region_is_four_locations_of_a_prompt(tiny_checkpoint: Path) -> None:
    checkpoint = load_for_export(tiny_checkpoint)
    vocabulary = read_vocabulary(checkpoint)
    texts = ("outline <loc_1><loc_2><loc_3><loc_4>", "<loc_5><loc_6><loc_7>", "open")
    regions = [vocabulary.region(prompt) for prompt in checkpoint.prompt_inputs(texts)["INPUT_IDS"]]
    assert regions == [[vocabulary.first_location + location for location in (1, 2, 3, 4)], [], []]


def test_vocabulary_comes_back_as_it_was_saved(tiny_checkpoint: Path, tmp_path: Path) -> None:
    vocabulary = read_vocabulary(load_for_export(tiny_checkpoint))
    vocabulary.save(tmp_path)
    loaded = Vocabulary.load(tmp_path)
    np.testing.assert_array_equal(loaded.token_ids, vocabulary.token_ids)
    assert {**vars(loaded), "token_ids": 0} == {**vars(vocabulary), "token_ids": 0}


def test_vocabulary_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match=r"vocabulary\.json"):
        Vocabulary.load(tmp_path)
    (tmp_path / "vocabulary.json").write_text('{"token_ids": [1, 2]}')
    with pytest.raises(VocabularyError, match="export the model again"):
        Vocabulary.load(tmp_path)
