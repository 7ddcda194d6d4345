"""Tells the words that only ask from those that say what to look for: 'please show me every ...', '请标出...的位置'.

Knows no classes.
"""

import re
import unicodedata
from typing import Literal

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
ENGLISH = frozenset(
    """
    a an the all any each every some of on in at to for from with by and or if how many is are was were do does did be
    there here where which what that this these those it its me my us we i you your please can could would will like
    want need help find finds finding locate locating detect detecting mark marking show shows showing highlight point
    out search searching look looking check checking inspect inspecting scan scanning report list tell give get see spot
    identify box boxes draw drawing rectangle rectangles around outline area areas region regions place places spots
    position positions location locations image picture photo board boards pcb circuit defect defects fault faults
    problem problems sign signs occur occurs occurring appear appears exist exists have has having whether visible
    present possible existing still maybe alert alerts something similar everywhere anywhere
    somewhere assembly am m
    """.split()  # noqa: SIM905 - a list of words reads as words
)
CHINESE = """
    有没有 是不是 电路板 线路板 板子 任何 看一下 找出来 标出来 圈出来 框出来 帮忙 帮我 寻找 查找
    找出 找到 检测 检查 查看 看看 识别 定位 标出 标记 标注 圈出 框出 指出 列出 给出
    报告 搜索 扫描 显示 没有 是否 存在 出现 哪里 哪儿 哪些 什么 地方 位置 区域 缺陷
    问题 图像 图片 照片 画面 所有 全部 情况 方框 请问 可能 是 请 我 要 想 需 帮
    找 查 看 标 圈 框 用 把 将 出 来 有 无 吗 呢 么 哪 在 的 图 中 里 上 板
    这 那 块 张 每 一 处 个 些 给 了 下 整 类似 像 整板 位于 报
""".split()  # noqa: SIM905 - a list of words reads as words
CHINESE_WORDS = re.compile("|".join(sorted(CHINESE, key=len, reverse=True)))
MARKS = re.compile(r"[\s\W_]+")


def normalise(text: str) -> str:
    """Compatibility forms, case and spacing made one, as the tokenizer does."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())


def is_instruction(text: str) -> bool:
    """Whether a normalised text holds nothing but words that ask, in either language; an empty one does."""
    rest = CHINESE_WORDS.sub(" ", text)
    return all(word in ENGLISH for word in MARKS.sub(" ", rest).split())
