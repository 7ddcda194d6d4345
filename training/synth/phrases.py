"""Says in English and Chinese what an annotation's attributes show, in several ways.

Sentences come from the attributes alone, so equal attributes have equal sentences and ids, in every run.
"""

from export.contract.defects import DEFECTS
from training.synth.blemishes import Look

BLEMISH_NAMES = {"en": ("blemish", "contamination"), "zh": ("污损", "异物污染")}
BLEMISH_DESCRIPTIONS = {
    "en": ("a stain, residue, burn or foreign body that does not belong on the board",),
    "zh": ("板上不该有的污渍、残留、烧痕或异物",),
}
COMPONENTS_ZH = {"resistor": "电阻", "capacitor": "电容", "chip": "芯片", "connector": "连接器"}
COLOURS = {
    "black": (("black", "dark"), ("黑色", "深黑色")),
    "brown": (("brown", "brownish"), ("棕色", "褐色")),
    "white": (("white", "whitish"), ("白色", "发白的")),
    "green": (("green", "greenish"), ("绿色", "发绿的")),
}
SHAPES = {
    "ring": (("ring", "halo"), ("圆环", "环状痕迹")),
    "spot": (("spot", "stain"), ("斑点", "污斑")),
    "streak": (("streak", "smear"), ("条纹", "条状痕迹")),
    "cluster": (("cluster of specks", "group of small dots"), ("点群", "密集小点")),
}
# Two phrasings of every place; English follows the thing, Chinese precedes it.
PLACES = {
    "solder_joint": (
        ("beside the solder joint of a {en}", "next to a soldered pad of the {en}"),
        ("{zh}焊点旁的", "{zh}焊盘边上的"),
    ),
    "ring_solder_joint": (
        ("around the solder joint of a {en}", "encircling a soldered pad of the {en}"),
        ("{zh}焊点周围的", "围绕{zh}焊盘的"),
    ),
    "component": (("on a {en}", "on the body of the {en}"), ("{zh}表面的", "{zh}本体上的")),
    "board": (("on the bare board", "on the solder mask between components"), ("空白板面上的", "元件之间阻焊层上的")),
    "pad": (("on an empty pad", "on a pad without a component"), ("空焊盘上的", "没有元件的焊盘上的")),
}
DEFECT_PLACES = {
    "trace": (("in a trace", "on a copper track"), ("走线上的", "铜线上的")),
    "between_traces": (("between traces", "in the gap between conductors"), ("走线之间的", "导线间隙里的")),
    "copper": (("in the copper", "in a copper area"), ("铜面上的", "铜层里的")),
    "solder_joint": (("at a {en}", "on the pad of the {en}"), ("{zh}的", "{zh}焊盘上的")),
    "pins": (("between the pins of a {en}", "across two pads of the {en}"), ("{zh}引脚间的", "{zh}相邻焊盘间的")),
    "component": (("of a {en}", "of the {en} from its pads"), ("{zh}的", "{zh}相对焊盘的")),
    "pads": (("where a {en} belongs", "on the footprint of a {en}"), ("{zh}位置的", "{zh}焊盘处的")),
    "board": (("on the board", "across the solder mask"), ("板面上的", "阻焊层上的")),
}
NAMES = {defect.id: (defect.names_en[:2], defect.names_zh[:2]) for defect in DEFECTS}
NAMES["component_misalignment"] = (("misalignment", "displacement"), ("错位", "偏移"))  # "of a resistor"
DESCRIPTIONS = {defect.id: (defect.descriptions_en, defect.descriptions_zh) for defect in DEFECTS}


def describe(category: str, attributes: dict[str, str]) -> dict[str, str]:
    """Sentences about one annotation by id, in both languages."""
    place, component = attributes["place"], attributes["component"]
    words = {"en": component, "zh": COMPONENTS_ZH.get(component, "")}
    if category == "blemish":
        return _describe_blemish(Look(**attributes), words)
    english, chinese = NAMES[category]
    places_en, places_zh = DEFECT_PLACES[place]
    stem = "_".join([category, place, component])
    sentences: dict[str, str] = {}
    for number in range(2):
        name_en, name_zh = english[number % len(english)], chinese[number % len(chinese)]
        sentences[f"{stem}_en_{number}"] = _with_article(f"{name_en} {places_en[number]}".format(**words))
        sentences[f"{stem}_zh_{number}"] = f"{places_zh[number]}{name_zh}".format(**words)
    return sentences


def describe_category(category: str) -> dict[str, str]:
    """Sentences that hold for every annotation of a category, by id."""
    described = (BLEMISH_DESCRIPTIONS["en"], BLEMISH_DESCRIPTIONS["zh"])
    english, chinese = described if category == "blemish" else DESCRIPTIONS[category]
    sentences = {f"{category}_en_{number}": text for number, text in enumerate(english)}
    return sentences | {f"{category}_zh_{number}": text for number, text in enumerate(chinese)}


def category_names(category: str) -> dict[str, list[str]]:
    """The names of a category by language, the usual one first."""
    if category == "blemish":
        return {language: list(names) for language, names in BLEMISH_NAMES.items()}
    defect = next(defect for defect in DEFECTS if defect.id == category)
    return {"en": list(defect.names_en), "zh": list(defect.names_zh)}


def _describe_blemish(look: Look, words: dict[str, str]) -> dict[str, str]:
    ringed = look.shape == "ring" and look.place == "solder_joint"
    places_en, places_zh = PLACES["ring_solder_joint" if ringed else look.place]
    colours, shapes = COLOURS[look.colour], SHAPES[look.shape]
    stem = "_".join(["blemish", look.shape, look.colour, look.place, look.component])
    sentences: dict[str, str] = {}
    for number, (colour, shape, place) in enumerate(((0, 0, 0), (1, 0, 1), (0, 1, 1), (1, 1, 0))):
        text = f"{colours[0][colour]} {shapes[0][shape]} {places_en[place]}".format(**words)
        sentences[f"{stem}_en_{number}"] = _with_article(text)
        sentences[f"{stem}_zh_{number}"] = f"{places_zh[place]}{colours[1][colour]}{shapes[1][shape]}".format(**words)
    return sentences


def _with_article(text: str) -> str:
    if text.startswith(("too little", "insufficient", "excess", "spurious")):
        return text
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"
