"""`neuroprune chips`."""

from __future__ import annotations

import argparse

from hw_targets.app.cli.tables import table
from hw_targets.targets.registry import available_chips, load_chip


def chips(options: argparse.Namespace) -> None:
    if options.name is None:
        print("\n".join(available_chips()))
        return
    chip = load_chip(options.name)
    rows = [[f.key, f.text, f.unit, f.source] for f in chip.facts]
    print(table(rows, [chip.name, "value", "unit", "source"], left=(0, 2, 3)))
    print(f"\nunknown (unpublished, or this chip has no such thing): {', '.join(chip.unknown) or 'nothing'}")
