"""`neuroprune chips`."""

from __future__ import annotations

from hw_targets.app.cli.console import Console
from hw_targets.app.cli.tables import table
from hw_targets.targets.registry import available_chips, load_chip


def chips(name: str | None, console: Console) -> None:
    """Names, or all that one chip states."""
    if name is None:
        known = available_chips()
        console.result({"chips": list(known)}, "\n".join(known))
        return
    chip = load_chip(name)
    rows = [[f.key, f.text, f.unit, f.source] for f in chip.facts]
    text = table(rows, [chip.name, "value", "unit", "source"], left=(0, 2, 3))
    unknown = ", ".join(chip.unknown) or "nothing"
    facts = [{"key": f.key, "value": f.text, "unit": f.unit, "source": f.source} for f in chip.facts]
    console.result(
        {"chip": chip.name, "facts": facts, "unknown": list(chip.unknown)},
        f"{text}\n\nunknown (unpublished, or this chip has no such thing): {unknown}",
    )
