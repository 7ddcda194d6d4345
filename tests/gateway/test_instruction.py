"""Sentences as engineers write them: what is understood about drawing, and the description that is left."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.catalog.recognition import Catalog
from gateway.catalog.seeds import SEEDS
from gateway.words.instruction import CHINESE, COLOURS, ENGLISH, read_instruction

CATALOG = Catalog(1, SEEDS)
SAME = "="  # the description is the prompt
ALL = "*"  # the whole catalog is meant

# prompt, description (or SAME, or ALL), defect, task, colour of boxes, colour of masks
SENTENCES: tuple[tuple[str, str, str | None, str, str | None, str | None], ...] = (
    # boxes in a colour
    ("用红框标出焊锡不足的焊点", "焊锡不足的焊点", "insufficient_solder", "detect", "red", None),
    ("用红色方框标出短路", "短路", "short", "detect", "red", None),
    ("请用黄色虚线框圈出鼠咬", "请 鼠咬", "mousebite", "detect", "yellow", None),
    ("红框标出毛刺", "毛刺", "spur", "detect", "red", None),
    ("把毛刺用绿色方框框出来", "把毛刺", "spur", "detect", "green", None),
    ("用蓝色标出所有断路", "所有断路", "open", "detect", "blue", None),
    ("用橙色圈出针孔", "针孔", "pin_hole", "detect", "orange", None),
    ("把毛刺标成红色", "把毛刺", "spur", "detect", "red", None),
    ("找出余铜,方框用紫色", "找出余铜", "spurious_copper", "detect", "purple", None),
    ("框的颜色为紫色，找出毛刺", "找出毛刺", "spur", "detect", "purple", None),
    ("检测划痕，并用青色矩形框显示", "检测划痕", "scratch", "detect", "cyan", None),
    ("以粉红色边框高亮缺件", "缺件", "missing_component", "detect", "pink", None),
    ("画出红色方框标记连锡", "连锡", "solder_bridge", "detect", "red", None),
    ("用 #00ff00 方框标出虚焊", "虚焊", "cold_solder_joint", "detect", "#00ff00", None),
    ("mark shorts with red boxes", "mark shorts", "short", "detect", "red", None),
    ("Mark the spurs in green", "Mark the spurs", "spur", "detect", "green", None),
    ("draw red boxes around all spurs", "all spurs", "spur", "detect", "red", None),
    ("find shorts with red boxes", "find shorts", "short", "detect", "red", None),
    ("red boxes around open circuits", "open circuits", "open", "detect", "red", None),
    ("show me every short in red, please", "show me every short", "short", "detect", "red", None),
    ("please highlight the long scratch in orange", "highlight the long scratch", "scratch", "detect", "orange", None),
    ("find pin-holes, mark them with thick yellow boxes", "find pin-holes", "pin_hole", "detect", "yellow", None),
    ("find pin-holes and box them in cyan", "find pin-holes", "pin_hole", "detect", "cyan", None),
    ("Find open circuits. Box colour: #00FF00", "Find open circuits", "open", "detect", "#00ff00", None),
    ("locate burrs using dashed purple bounding boxes", "locate burrs", "spur", "detect", "purple", None),
    ("outline solder bridges in magenta", "outline solder bridges", "solder_bridge", "detect", "magenta", None),
    ("mark mouse bites with a light blue frame", "mark mouse bites", "mousebite", "detect", "blue", None),
    ("use grey boxes for scratches", "scratches", "scratch", "detect", "gray", None),
    # masks, segments
    ("用红色方框标出缺陷区域并用蓝色掩膜覆盖", ALL, None, "segment", "red", "blue"),
    ("用红色方框和绿色掩膜标出短路", "短路", "short", "segment", "red", "green"),
    ("绿色半透明掩膜覆盖虚焊的焊点", "虚焊的焊点", "cold_solder_joint", "segment", None, "green"),
    ("用黄色填充针孔", "针孔", "pin_hole", "segment", None, "yellow"),
    ("找出划痕，用掩膜覆盖", "找出划痕", "scratch", "segment", None, None),
    ("分割短路区域", "短路区域", "short", "segment", None, None),
    ("请分割出毛刺，用红色遮罩显示", "请 毛刺", "spur", "segment", None, "red"),
    ("用蓝色蒙版盖住余铜，掩膜用蓝色", "余铜", "spurious_copper", "segment", None, "blue"),
    ("对短路做像素级分割", "对短路", "short", "segment", None, None),
    ("mark shorts with red boxes and cover them with a blue mask", "mark shorts", "short", "segment", "red", "blue"),
    ("find shorts with red boxes and blue masks", "find shorts", "short", "segment", "red", "blue"),
    ("segment the solder bridges", "the solder bridges", "solder_bridge", "segment", None, None),
    ("find scratches and fill them with green", "find scratches", "scratch", "segment", None, "green"),
    ("cover shorts with blue", "shorts", "short", "segment", None, "blue"),
    ("fill the pin-holes with yellow", "the pin-holes", "pin_hole", "segment", None, "yellow"),
    ("overlay a semi-transparent red mask on burrs", "burrs", "spur", "segment", None, "red"),
    ("segmentation masks for spurs", "spurs", "spur", "segment", None, None),
    ("boxes in red, masks in blue: open circuits", "open circuits", "open", "segment", "red", "blue"),
    ("please segment out the scratch", "the scratch", "scratch", "segment", None, None),
    # everything
    ("find all defects", ALL, None, "detect", None, None),
    ("找出所有缺陷", ALL, None, "detect", None, None),
    ("Find every defect on this board!", ALL, None, "detect", None, None),
    ("请检查这块板", ALL, None, "detect", None, None),
    ("这块电路板有没有问题？", ALL, None, "detect", None, None),
    ("mark all defects with red boxes", ALL, None, "detect", "red", None),
    ("用红色方框标出所有缺陷", ALL, None, "detect", "red", None),
    ("with purple boxes", ALL, None, "detect", "purple", None),
    # colours and words that belong to the description
    ("红胶溢出", SAME, None, "detect", None, None),
    ("red glue", SAME, None, "detect", None, None),
    ("find red glue on the pads", SAME, None, "detect", None, None),
    ("绿油起泡", SAME, None, "detect", None, None),
    ("焊点发黑", SAME, None, "detect", None, None),
    ("find scratches on the blue solder mask", SAME, "scratch", "detect", None, None),
    ("scratches on the blue mask", SAME, "scratch", "detect", None, None),
    ("mark scratches on boards with a blue mask", SAME, "scratch", "detect", None, None),
    ("areas not covered with solder mask", SAME, None, "detect", None, None),
    ("蓝色掩膜上的划痕", SAME, "scratch", "detect", None, None),
    ("红色方框内的芯片有划痕", SAME, "scratch", "detect", None, None),
    ("用红色标记的元件缺件", SAME, "missing_component", "detect", None, None),
    ("用绿色填充的过孔", SAME, None, "detect", None, None),
    ("寻找用红色胶水固定的元件", SAME, None, "detect", None, None),
    ("边框显示异常", SAME, None, "detect", None, None),
    ("V形分割槽毛刺", SAME, "spur", "detect", None, None),
    ("find components in red", SAME, None, "detect", None, None),
    ("find pads with white circles", SAME, None, "detect", None, None),
    ("mark the chip in the white box", SAME, None, "detect", None, None),
    ("a trace segment is missing", SAME, None, "detect", None, None),
    ("find a red wire next to the white connector", SAME, None, "detect", None, None),
    ("a white residue around the black connector", SAME, None, "detect", None, None),
    ("用红框标出红胶溢出", "红胶溢出", None, "detect", "red", None),
    ("mark red glue with blue boxes", "mark red glue", None, "detect", "blue", None),
    ("scratches on the green mask, marked in red", SAME, "scratch", "detect", None, None),
    ("burrs on the red solder mask, box them in red", "burrs on the red solder mask", "spur", "detect", "red", None),
    # nothing about drawing, in any form
    ("用方框标出每一处短路", "每一处短路", "short", "detect", None, None),
    ("寻找焊锡不足的焊点", SAME, "insufficient_solder", "detect", None, None),
    ("find pads with too little solder", SAME, "insufficient_solder", "detect", None, None),
    ("short", SAME, "short", "detect", None, None),
    ("🙂🙂", SAME, None, "detect", None, None),
    ("？", SAME, None, "detect", None, None),
)  # fmt: skip


def value(colour: str | None) -> str | None:
    return COLOURS.get(colour, colour) if colour else None


@pytest.mark.parametrize("sentence", SENTENCES, ids=[sentence[0] for sentence in SENTENCES])
def test_a_sentence_is_taken_apart(sentence: tuple[str, str, str | None, str, str | None, str | None]) -> None:
    prompt, description, defect, task, box, mask = sentence
    found = read_instruction(prompt)
    assert (found.task, found.box_colour, found.mask_colour) == (task, value(box), value(mask))
    assert found.everything == (description == ALL)
    if description != ALL:
        assert found.description == (prompt if description == SAME else description)
        assert CATALOG.recognise(found.description) == defect


def test_there_are_sentences_enough_in_both_languages() -> None:
    chinese = [prompt for prompt, *_ in SENTENCES if not prompt.isascii()]
    assert len(SENTENCES) >= 60
    assert min(len(chinese), len(SENTENCES) - len(chinese)) >= 30


@pytest.mark.parametrize("colour", [*ENGLISH, *CHINESE])
def test_every_colour_is_known_in_its_language(colour: str) -> None:
    prompt = f"mark spurs with {colour} boxes" if colour.isascii() else f"用{colour}色方框标出毛刺"
    assert read_instruction(prompt).box_colour == COLOURS[{**ENGLISH, **CHINESE}[colour]]


WORDS = st.sampled_from(
    [
        *("mark", "cover", "fill", "with", "in", "using", "red", "blue", "boxes", "box", "masks", "mask", "and", "a"),
        *("the", "segment", "shorts", "draw", "around", ",", ".", "#ff0000", "用", "红", "色", "方框", "掩膜", "标出"),
        *("覆盖", "并", "和", "的", "上", "短路", "分割", "成"),
    ]
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(WORDS, max_size=60).map(" ".join) | st.lists(WORDS, max_size=60).map("".join) | st.text(max_size=100))
def test_any_words_are_read_and_come_to_something(prompt: str) -> None:
    found = read_instruction(prompt)
    assert found.prompt == prompt
    assert found.description.strip() or found.everything or not prompt.strip()
