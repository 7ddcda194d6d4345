"""The words that a class is asked for by: names, synonyms and descriptions in two languages, in many phrasings."""

import random
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from export.contract.defects import DEFECTS, Defect

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
Phrasings = Mapping[Language, Sequence[str]]  # ways of asking for a label, each with {label} once

PHRASINGS: Phrasings = {
    "en": (
        "{label}",
        "find {label}",
        "find all {label}",
        "find every {label} on the board",
        "locate {label}",
        "locate all {label} regions",
        "mark {label} with boxes",
        "is there {label} in the image?",
        "where is the {label}?",
        "show me {label}",
        "detect {label}",
        "look for {label}",
        "check this board for {label}",
        "{label} defects",
        "please mark each {label}",
        "any {label} here?",
        "identify {label}",
        "find the places with {label}",
        "do you see any {label}?",
        "box every {label}",
        "scan the board for {label}",
        "where can I find {label}?",
        "locate and mark {label}",
        "show where there is {label}",
        "does this image show {label}?",
        "all {label} in this picture",
        "find regions that look like {label}",
        "we have a problem with {label}",
        "alert me to {label}",
        "search for {label} everywhere",
        "something like {label}",
        "please find {label} for me",
        "{label} on the assembly",
        "{label} anywhere on this PCB",
        "this assembly has {label}",
        "{label} somewhere on it",
    ),
    "zh": (
        "{label}",
        "寻找{label}",
        "查找{label}",
        "寻找{label}的位置",
        "图像中是否存在{label}?",
        "定位所有的{label}区域",
        "用方框标出{label}",
        "检测{label}",
        "找出板上的{label}",
        "哪里有{label}?",
        "标出每一处{label}",
        "请检查有没有{label}",
        "{label}缺陷",
        "有{label}吗?",
        "帮我找{label}",
        "把{label}圈出来",
        "寻找所有{label}",
        "请找出{label}",
        "定位{label}",
        "这块板上有{label}吗?",
        "标注{label}区域",
        "显示{label}的位置",
        "找到每个{label}",
        "哪些地方有{label}?",
        "检查这块板的{label}",
        "图片里的{label}",
        "存在{label}的地方",
        "看一下有没有{label}",
        "圈出所有{label}",
        "请标出{label}",
        "类似{label}的缺陷",
        "扫描整板查找{label}",
        "PCB上的{label}",
        "整块板子上的{label}",
        "这块线路板的{label}",
        "板上任何位置的{label}",
    ),
}
PLACE_WORDS: Mapping[Language, Sequence[str]] = {  # in front of a name they say nothing of its place
    "en": ("around", "beside", "next to", "across", "between", "inside", "near", "over", "under"),
    "zh": ("周围", "旁边", "之间", "上面", "里面", "附近", "下面", "围绕", "边上"),
}
BABBLE_SHARE = 0.4  # of the prompts; the phrasings themselves are too few to tell what only asks
HAN = (0x4E00, 0x9FA5)  # the common Chinese characters
ALL_DEFECTS: dict[Language, tuple[str, ...]] = {
    "en": ("find all defects", "locate all defects", "what is wrong with this board?"),
    "zh": ("寻找所有缺陷", "定位所有的缺陷区域", "这块板有什么问题?"),
}


def names(defect: Defect, language: Language) -> tuple[str, ...]:
    """The names of a class in a language, the usual one first; those of the other language where it has none."""
    own, other = defect.names_en, defect.names_zh
    if language == "zh":
        own, other = other, own
    return own or other or (defect.id,)


def words(defect: Defect, language: Language) -> tuple[str, ...]:
    """Every name and description of a class in a language."""
    descriptions = defect.descriptions_en if language == "en" else defect.descriptions_zh
    return names(defect, language) + descriptions


def ask_for(label: str, language: Language, rng: random.Random, phrasings: Phrasings = PHRASINGS) -> str:
    """A label in a random phrasing, or among words that mean nothing: whatever surrounds a label must not matter."""
    if rng.random() < BABBLE_SHARE:
        before, after = _babble(language, rng, phrasings), _babble(language, rng, phrasings)
        return f"{before}{label}{after}" if language == "zh" else f"{before} {label} {after}".strip()
    return rng.choice(phrasings[language]).replace("{label}", label)  # other braces are the user's own


def _babble(language: Language, rng: random.Random, phrasings: Phrasings) -> str:
    """Up to four words, of the phrasings, about places, or of no language at all."""
    pieces = []
    for _ in range(rng.randrange(5)):
        kind = rng.random()
        if kind < 0.15:
            pieces.append(rng.choice(PLACE_WORDS[language]))
            continue
        if kind < 0.4:
            if language == "zh":
                pieces.append("".join(chr(rng.randint(*HAN)) for _ in range(rng.randint(1, 2))))
            else:
                pieces.append("".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 9))))
            continue
        asking = rng.choice(phrasings[language]).replace("{label}", " ").split()
        if not asking:
            continue
        piece = rng.choice(asking)
        if language == "zh":
            start = rng.randrange(len(piece))
            piece = piece[start : start + rng.randint(1, 3)]
        pieces.append(piece)
    return ("" if language == "zh" else " ").join(pieces)


def draw_phrasing(defect: Defect, language: Language, rng: random.Random, phrasings: Phrasings = PHRASINGS) -> str:
    """One way of asking for a class: the bare usual name for one draw in four, else any words in any phrasing."""
    if rng.random() < 0.25:
        return names(defect, language)[0]
    return ask_for(rng.choice(words(defect, language)), language, rng, phrasings)


def corpus(
    defects: Sequence[Defect] = DEFECTS, sentences: Iterable[str] = (), phrasings: Phrasings = PHRASINGS
) -> Iterator[str]:
    """Every phrasing of every class, and `sentences` as they are, for training a tokenizer."""
    for language in LANGUAGES:
        yield from ALL_DEFECTS[language]
        for defect in defects:
            for label in words(defect, language):
                yield from (phrasing.replace("{label}", label) for phrasing in phrasings[language])
    yield from sentences
