from PIL import ImageFont

from training.synth.phrases import category_names
from training.synth.picture import CATEGORIES
from training.synth.sheet import chinese_font


def test_captions_have_a_chinese_font_in_any_checkout() -> None:
    font = chinese_font()
    assert isinstance(font, ImageFont.FreeTypeFont)
    absent = bytes(font.getmask("\uffff"))
    texts = [category_names(name)["zh"][0] for name in CATEGORIES if name != "blemish"]
    assert not {character for text in texts for character in text if bytes(font.getmask(character)) == absent}
