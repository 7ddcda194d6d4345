"""The words that a class is asked for by: names, synonyms and descriptions in two languages, in many phrasings."""

import random
from collections.abc import Iterator, Sequence
from typing import Literal

from export.contract.defects import DEFECTS, Defect

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")

PHRASINGS: dict[Language, tuple[str, ...]] = {
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
    ),
}
ALL_DEFECTS: dict[Language, tuple[str, ...]] = {
    "en": ("find all defects", "locate all defects", "what is wrong with this board?"),
    "zh": ("寻找所有缺陷", "定位所有的缺陷区域", "这块板有什么问题?"),
}


def names(defect: Defect, language: Language) -> tuple[str, ...]:
    """The names of a class in a language, the usual one first."""
    return defect.names_en if language == "en" else defect.names_zh


def words(defect: Defect, language: Language) -> tuple[str, ...]:
    """Every name and description of a class in a language."""
    descriptions = defect.descriptions_en if language == "en" else defect.descriptions_zh
    return names(defect, language) + descriptions


def draw_phrasing(defect: Defect, language: Language, rng: random.Random) -> str:
    """One way of asking for a class: the bare usual name for one draw in four, else any words in any phrasing."""
    if rng.random() < 0.25:
        return names(defect, language)[0]
    return rng.choice(PHRASINGS[language]).format(label=rng.choice(words(defect, language)))


def corpus(defects: Sequence[Defect] = DEFECTS) -> Iterator[str]:
    """Every phrasing of every class, for training a tokenizer."""
    for language in LANGUAGES:
        yield from ALL_DEFECTS[language]
        for defect in defects:
            for label in words(defect, language):
                yield from (phrasing.format(label=label) for phrasing in PHRASINGS[language])
