"""Takes a sentence apart: how to draw (task, colours of boxes and masks), and the description that is left.

By lexicons in Chinese and English, without a model. A colour counts only where it stands with something that is drawn
and with a word for drawing it ('with red boxes', '用红框标出'); every other one belongs to the description ('red glue',
'红胶溢出', 'scratches on the blue solder mask', '用红色标记的元件'). What is not understood stays in the description.
Knows no classes.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from gateway.words.wording import is_instruction, normalise

Task = Literal["detect", "segment"]

COLOURS = {
    "red": "#e6194b",
    "orange": "#ff7f0e",
    "yellow": "#ffd92f",
    "green": "#2ca02c",
    "cyan": "#17becf",
    "blue": "#1f77ff",
    "purple": "#9467bd",
    "magenta": "#e500e5",
    "pink": "#ff8ac4",
    "brown": "#8c564b",
    "black": "#000000",
    "white": "#ffffff",
    "gray": "#808080",
}
ENGLISH = {name: name for name in COLOURS} | {"grey": "gray", "violet": "purple", "turquoise": "cyan"}
CHINESE = {
    "红": "red",
    "橙": "orange",
    "橘": "orange",
    "黄": "yellow",
    "绿": "green",
    "青": "cyan",
    "蓝": "blue",
    "紫": "purple",
    "品红": "magenta",
    "洋红": "magenta",
    "粉红": "pink",
    "粉": "pink",
    "棕": "brown",
    "褐": "brown",
    "黑": "black",
    "白": "white",
    "灰": "gray",
}
HEX = r"#[0-9a-f]{6}(?![0-9a-f])"
CUT = "\ue000"  # stands where a clause was taken out


def _either(words: str) -> str:
    """Matches the longest of the words that fits, and no shorter one in its place."""
    return f"(?>{'|'.join(sorted(words.split(), key=len, reverse=True))})"


# English: what is drawn, with words for how it looks, which are passed over.
COLOUR = rf"(?:(?:dark|light|bright|pale|deep)\s+)?(?P<colour>{_either(' '.join(ENGLISH))}\b|{HEX})"
LOOK = (
    r"(?:(?:semi-?\s?transparent|transparent|translucent|dashed|dotted|solid|filled|thick|thin|bold|bounding|"
    r"rectangular|segmentation)[\s-]+)*"
)
BOX = r"(?P<box>box(?:es)?|rectangles?|frames?|outlines?|borders?|circles?)"
MASK = r"(?P<mask>masks?|overlays?|shading)"
ARTICLE = r"(?:an?\s+|some\s+)?"
THING = rf"{ARTICLE}{LOOK}(?:{COLOUR}\s+)?{LOOK}(?:{BOX}|{MASK})\b(?!\s+(?:layer|side|colou?r))"
COLOURED = rf"{ARTICLE}{LOOK}{COLOUR}\s+{LOOK}(?:{BOX}|{MASK})\b(?!\s+(?:layer|side))"
COLOURED_MANY = rf"{LOOK}{COLOUR}\s+{LOOK}(?:(?P<box>boxes|rectangles)|(?P<mask>masks|overlays))\b"
PLAIN_BOXES = rf"{LOOK}(?P<box>boxes|rectangles)\b"
THEM = r"(?:\s+(?:them|it|these|those|everything|(?:each|all)(?:\s+of\s+them|\s+one)?))?"
MARK = r"(?:mark|highlight|show|outline|box|frame|circle|draw|surround|enclose|label|indicate)"
COVER = r"(?:cover|fill|shade|paint|overlay|mask|colou?r)"
START = r"(?:^|(?<=[,.;:!?])\s*|\b(?:and|then|please|also|to|you)\s+)"
END = r"(?=\s*(?:$|[,.;:!?]|\b(?:and|then|with|using|please)\b))"
WITH = r"(?<!\bboards\s)(?<!\bboard\s)(?<!\bpcbs\s)(?<!\bpcb\s)(?<!\bside\s)\b(?:with|using|by|in|inside|as)"

# Chinese, where no space parts words.
COLOUR_ZH = rf"[深浅亮暗淡]?(?P<colour>{_either(' '.join(CHINESE))}|{HEX})色?+"
LOOK_ZH = r"(?:\s|的|半透明|透明|虚线|实线|粗|细|实心|空心)*"
FRAME_ZH = _either("矩形框线 矩形框 包围框 检测框 边界框 长方形 矩形 方框 线框 边框 圆圈 框线")
BOX_ZH = f"(?P<box>{FRAME_ZH}|[框圈](?![出起住选]))"  # 框出 is a verb
MASK_ZH = f"(?P<mask>{_either('掩膜 掩码 掩模 遮罩 蒙版 蒙层')})"
NOT_ON = r"(?!\s*(?:上|下|里|内|中|外|层|表面|边缘|边上|附近|处|旁))"  # a place on the board, nothing to draw
THING_ZH = rf"(?:{COLOUR_ZH})?{LOOK_ZH}(?:{BOX_ZH}|{MASK_ZH}){NOT_ON}"
COLOURED_ZH = rf"{COLOUR_ZH}{LOOK_ZH}(?:{BOX_ZH}|{MASK_ZH}){NOT_ON}"
WITH_ZH = _either("使用 采用 通过 利用 用 以 拿 画上 画出 画 绘制 加上 加 叠加 叠上") + "(?:一个|一层|个)?"
OUT = "(?:出来|起来|出|住|上)?+"
MARK_ZH = _either("标示 标记 标注 标明 标识 标 圈 框选 框 画 高亮 突出 显示 勾") + OUT
COVER_ZH = _either("覆盖 遮盖 盖 填充 填满 涂满 涂抹 涂") + OUT
ADVERB = "(?:的(?:形式|方式))?(?:来|进行|去)?"
NOT_OF = "(?!的)"  # '用红框标出的芯片' tells which chip, not how to draw

# Each takes one clause out of the sentence, the earlier ones first: the whole match, or its groups `cut` and `cut2`.
# A colour is that of the group `box`, `mask`, `marks` (a box, by its verb) or `covers` (a mask, by its verb).
CLAUSES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # 'box colour: red', 'masks should be blue', 'boxes in red'
        rf"\b(?:{BOX}|{MASK})\s+(?:colou?r\s*(?:is|should\s+be|:|=)?|should\s+be|must\s+be|are|in|:|=)\s*{COLOUR}{END}",
        # 'cover them with a blue mask', 'fill them in green', 'box them in red'
        rf"\b(?:{MARK}|{COVER}){THEM}\s+(?:with|using|by|in)\s+{THING}",
        rf"(?P<covers>){START}{COVER}{THEM}\s+(?:with|in)\s+{COLOUR}{END}",
        rf"(?P<marks>){START}{MARK}{THEM}\s+in\s+{COLOUR}{END}",
        # 'draw red boxes around', 'overlay a green mask on'
        rf"\b(?:draw|put|place|add|use|overlay|show|apply|lay)\s+{THING}(?:\s+(?:around|over|on|onto|at|for|to)\b)?",
        # 'mark shorts with a red frame', 'find shorts with red boxes'
        rf"{START}(?:{MARK}|{COVER})\b[^.;!?{CUT}]*?\s(?P<cut>{WITH}\s+{THING})",
        rf"{WITH}\s+(?:{COLOURED_MANY})",
        rf"{WITH}\s+(?:{PLAIN_BOXES})",
        # 'mark shorts in red', 'fill the pin-holes with green'
        rf"(?P<marks>){START}{MARK}\s[^.;!?{CUT}]*?\s(?P<cut>in\s+{COLOUR}){END}",
        rf"(?P<covers>){START}(?P<cut>{COVER}\s)[^.;!?{CUT}]*?\s(?P<cut2>(?:in|with)\s+{COLOUR}){END}",
        # 'red boxes around shorts', and what follows another clause: 'with red boxes and blue masks'
        rf"^{COLOURED}\s+(?:around|over|on|for|at)\b",
        rf"(?<={CUT})\s*(?:,|&|\band\b|\bplus\b)\s*(?:with\s+)?{COLOURED}",
        # 标成红色, 涂成绿色
        rf"(?P<marks>){MARK_ZH}[成为作]{COLOUR_ZH}{NOT_OF}",
        rf"(?P<covers>){COVER_ZH}[成为作]{COLOUR_ZH}{NOT_OF}",
        # 框的颜色为红色, 掩膜用蓝色
        rf"(?:{BOX_ZH}|{MASK_ZH})的?(?:颜色)?(?:设置为|设置成|设为|设成|使用|是|为|用|选|要|[:=])\s*{COLOUR_ZH}{NOT_OF}",
        # 用红色方框标出, 用蓝色掩膜覆盖, 用掩膜
        rf"{WITH_ZH}\s*{THING_ZH}{ADVERB}(?:{MARK_ZH}|{COVER_ZH})?+{NOT_OF}",
        # what follows another clause, 用红色方框和蓝色掩膜标出, and 红框标出
        rf"(?<={CUT})\s*[,、和及与并加]\s*{COLOURED_ZH}{ADVERB}(?:{MARK_ZH}|{COVER_ZH})?+{NOT_OF}",
        rf"{COLOURED_ZH}{ADVERB}(?:{MARK_ZH}|{COVER_ZH}){NOT_OF}",
        # 用绿色填充, 用红色标出
        rf"(?P<covers>){WITH_ZH}\s*{COLOUR_ZH}{ADVERB}{COVER_ZH}{NOT_OF}",
        rf"(?P<marks>){WITH_ZH}\s*{COLOUR_ZH}{ADVERB}{MARK_ZH}{NOT_OF}",
    )
)
SEGMENT = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"{START}(?P<cut>segment(?:\s+out)?\b)",
        r"\b(?:(?:instance|semantic|pixel(?:-?wise|-level)?)\s+)?segmentation(?:\s+masks?)?(?:\s+(?:of|for)\b)?",
        r"(?:做|进行)?(?:像素级|语义|实例)?分割(?:出来|出)?(?!槽|线|板|孔|区|成)",
    )
)
JOINTS = r"(?:[\s,.;:、。&]|\b(?:and|then|also|please)\b|并且|并|同时|然后|再|以及)"
ENDS = re.compile(rf"^{JOINTS}+|{JOINTS}+$", re.IGNORECASE)

GAP = re.compile(r"\s+(?=[,.;:!?、])")


@dataclass(frozen=True)
class Instruction:
    """What a prompt asks for; colours are #rrggbb, None where it names none."""

    prompt: str  # as sent
    description: str  # what to look for; the whole prompt where it says nothing about drawing
    everything: bool  # it describes nothing: the whole catalog is meant
    task: Task = "detect"
    box_colour: str | None = None
    mask_colour: str | None = None


@lru_cache(maxsize=4096)
def read_instruction(prompt: str) -> Instruction:
    """Takes a prompt apart."""
    text = unicodedata.normalize("NFKC", prompt).replace(CUT, "")
    box_colour = mask_colour = None
    segment = False
    for pattern in CLAUSES:
        while match := pattern.search(text):
            groups = match.groupdict()
            colour = _colour(groups.get("colour"))
            if groups.get("mask") or "covers" in groups:
                segment, mask_colour = True, mask_colour or colour
            else:
                box_colour = box_colour or colour
            text = _without(text, match)
    for pattern in SEGMENT:
        if match := pattern.search(text):
            segment, text = True, _without(text, match)
    description = prompt
    if CUT in text:
        description = ENDS.sub("", GAP.sub("", " ".join(text.replace(CUT, " ").split())))
    says_nothing = any(character.isalnum() for character in prompt) and is_instruction(normalise(description))
    return Instruction(prompt, description, says_nothing, "segment" if segment else "detect", box_colour, mask_colour)


def _without(text: str, match: re.Match[str]) -> str:
    """The text with a mark in place of what the match takes out."""
    spans = [match.span(name) for name in ("cut2", "cut") if match.groupdict().get(name)] or [match.span()]
    for start, end in spans:  # the later one first
        text = text[:start] + CUT + text[end:]
    return text


def _colour(words: str | None) -> str | None:
    if words is None:
        return None
    words = words.lower()
    return words if words.startswith("#") else COLOURS[ENGLISH.get(words) or CHINESE[words]]
