"""The twelve defect classes with their names and descriptions in English and Chinese.

Their ids are stable: catalogs, COCO files and metrics refer to them.
"""

import re
import unicodedata
from dataclasses import dataclass


@dataclass(frozen=True)
class Defect:
    """One class: `names` and `descriptions` by language, the first name of each being the usual one."""

    id: str
    names_en: tuple[str, ...]
    names_zh: tuple[str, ...]
    descriptions_en: tuple[str, ...]
    descriptions_zh: tuple[str, ...]


BARE_BOARD = (
    Defect(
        "open",
        ("open circuit", "open", "broken trace", "trace break"),
        ("断路", "开路", "断线", "线路断开"),
        ("a gap that interrupts a copper trace", "a track that is cut through"),
        ("铜线中间有断口", "走线被切断，不连续"),
    ),
    Defect(
        "short",
        ("short circuit", "short", "copper bridge", "shorted traces"),
        ("短路", "线路短接", "铜桥", "线间短路"),
        ("copper that joins two neighbouring traces", "a bridge between two tracks that must be separate"),
        ("相邻两条线路被铜连在一起", "两根走线之间有多余的连接"),
    ),
    Defect(
        "mousebite",
        ("mousebite", "mouse bite", "notch", "nibbled trace edge"),
        ("鼠咬", "缺口", "线路缺口", "边缘缺损"),
        ("a small bite out of the edge of a trace", "missing copper at the border of a conductor"),
        ("线路边缘被咬掉一小块", "导线边上缺了一块铜"),
    ),
    Defect(
        "spur",
        ("spur", "copper spur", "burr", "protrusion"),
        ("毛刺", "铜刺", "凸起", "线路毛边"),
        ("a small spike of copper sticking out of a trace", "a bump on the edge of a conductor"),
        ("线路边缘伸出的小铜刺", "导线边上有多余的突起"),
    ),
    Defect(
        "spurious_copper",
        ("spurious copper", "excess copper", "copper residue", "isolated copper"),
        ("余铜", "残铜", "多余的铜", "铜渣"),
        ("an isolated island of copper where none belongs", "a stray copper spot between traces"),
        ("空白处有一块孤立的铜", "线路之间残留的铜斑"),
    ),
    Defect(
        "pin_hole",
        ("pin-hole", "pinhole", "hole in copper", "void in the copper"),
        ("针孔", "铜面针孔", "砂孔", "铜面空洞"),
        ("a tiny hole inside a copper area", "a small spot without copper inside a pad or trace"),
        ("铜面内部有小孔", "焊盘或走线里面缺一小点铜"),
    ),
)

ASSEMBLY = (
    Defect(
        "cold_solder_joint",
        ("cold solder joint", "cold joint"),
        ("虚焊", "冷焊"),
        ("a dull, grainy solder joint that has not wetted",),
        ("焊点发暗粗糙，没有润湿",),
    ),
    Defect(
        "insufficient_solder",
        ("insufficient solder", "too little solder"),
        ("焊锡不足", "少锡"),
        ("a pad with too little solder",),
        ("焊盘上的焊锡太少",),
    ),
    Defect(
        "solder_bridge",
        ("solder bridge", "solder short"),
        ("连锡", "桥连"),
        ("solder that joins two neighbouring pins",),
        ("焊锡把相邻两个引脚连在一起",),
    ),
    Defect(
        "component_misalignment",
        ("component misalignment", "shifted component"),
        ("元件错位", "元件偏移"),
        ("a component that is rotated or shifted off its pads",),
        ("元件歪斜或偏离焊盘",),
    ),
    Defect(
        "missing_component",
        ("missing component", "absent part"),
        ("缺件", "漏贴"),
        ("pads without the component that belongs there",),
        ("焊盘上没有应有的元件",),
    ),
    Defect(
        "scratch",
        ("scratch", "scratched surface"),
        ("划痕", "刮伤"),
        ("a long thin scratch across the board's surface",),
        ("板面上细长的刮痕",),
    ),
)

DEFECTS = BARE_BOARD + ASSEMBLY


def normalise(name: str) -> str:
    """A name as it is compared with others, however spaced or cased."""
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()


KNOWN = {normalise(name): defect for defect in DEFECTS for name in (defect.id, *defect.names_en, *defect.names_zh)}


def known_defect(name: str) -> Defect | None:
    """The defect that has a name, in either language, or that id; None where there is none."""
    return KNOWN.get(normalise(name))
