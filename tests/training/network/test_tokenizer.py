import pytest

from export.contract.defects import BARE_BOARD, DEFECTS
from export.contract.tensors import LENGTH_BUCKETS
from training.network.tokenizer import encode_batch, train_tokenizer
from training.prompts import PHRASINGS, corpus

TOKENIZER = train_tokenizer(corpus(), 1280)


@pytest.mark.parametrize("text", ["open circuit", "断路", "寻找焊锡不足的焊点", "Größe 5 µm ~ ∞", "🙂"])
def test_any_text_survives(text: str) -> None:
    ids = TOKENIZER.encode(text, add_special_tokens=False).ids
    assert TOKENIZER.decode(ids).strip() == TOKENIZER.normalizer.normalize_str(text)
    assert TOKENIZER.token_to_id("<unk>") not in ids


def test_case_and_width_make_no_difference() -> None:
    assert TOKENIZER.encode("Open Circuit").ids == TOKENIZER.encode("open circuit").ids
    assert TOKENIZER.encode("ｏｐｅｎ").ids == TOKENIZER.encode("open").ids


def test_locations_are_single_tokens_in_a_row() -> None:
    ids = TOKENIZER.encode("<loc_0><loc_999>", add_special_tokens=False).ids
    assert ids == [1280, 2279]
    assert TOKENIZER.get_vocab_size() == 2280


def test_every_phrasing_fits_the_longest_bucket() -> None:
    assert max(len(TOKENIZER.encode(text).ids) for text in corpus()) <= LENGTH_BUCKETS[-1]


def test_a_batch_is_padded_behind_its_mask() -> None:
    input_ids, attention_mask = encode_batch(TOKENIZER, ["断路", "a much longer way to ask for it"])
    assert input_ids.shape == attention_mask.shape
    assert (input_ids[attention_mask == 0] == TOKENIZER.token_to_id("<pad>")).all()
    assert attention_mask[0].tolist() == sorted(attention_mask[0].tolist(), reverse=True)


def test_no_two_classes_share_a_name() -> None:
    names = [name for defect in DEFECTS for name in defect.names_en + defect.names_zh]
    assert len(names) == len(set(names))
    assert len(BARE_BOARD) == 6
    assert all(len(set(phrasings)) == len(phrasings) for phrasings in PHRASINGS.values())
