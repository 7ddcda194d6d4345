"""The defects that a new catalog starts with: the twelve of the contract, how grave each is and how it is drawn."""

from export.contract.defects import DEFECTS
from gateway.catalog.defect import Defect, Descriptions, Names, Severity

# Critical stops the board from working, major may do so later, minor is a matter of the limits agreed on.
SEVERITIES: dict[str, tuple[Severity, str]] = {
    "open": ("critical", "#d62728"),
    "short": ("critical", "#ff7f0e"),
    "mousebite": ("minor", "#bcbd22"),
    "spur": ("minor", "#2ca02c"),
    "spurious_copper": ("major", "#17becf"),
    "pin_hole": ("minor", "#1f77b4"),
    "cold_solder_joint": ("major", "#9467bd"),
    "insufficient_solder": ("major", "#e377c2"),
    "solder_bridge": ("critical", "#e6194b"),
    "component_misalignment": ("major", "#8c564b"),
    "missing_component": ("critical", "#c2185b"),
    "scratch": ("minor", "#607d8b"),
}

SEEDS = tuple(
    Defect(
        id=defect.id,
        names=Names(en=defect.names_en, zh=defect.names_zh),
        descriptions=Descriptions(en=defect.descriptions_en, zh=defect.descriptions_zh),
        severity=SEVERITIES[defect.id][0],
        colour=SEVERITIES[defect.id][1],
    )
    for defect in DEFECTS
)
