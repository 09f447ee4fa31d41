"""Who may import whom, read from the source."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("neuroprune", "hw_targets")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@cache
def imported(module: str, *, typing_too: bool = True) -> frozenset[str]:
    """Every module a source file names: import statements wherever they stand, `require("…")` and `import_module("…")`.

    `from package import name` counts as package.name where that is a module, as package otherwise.
    """
    path = SOURCES[module]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    skipped = {
        id(inner) for node in ast.walk(tree) if is_type_checking(node) and not typing_too for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])
            for alias in node.names:
                found.add(f"{base}.{alias.name}" if f"{base}.{alias.name}" in SOURCES else base)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("require", "import_module", "__import__", "find_spec") and isinstance(node.args[0].value, str):
                found.add(node.args[0].value)
    return frozenset(found)


def importers(package: str, inside: str, *, typing_too: bool = True) -> set[str]:
    """Modules of `inside` that import `package` or a part of it."""
    return {
        module
        for module in SOURCES
        if module.split(".")[0] == inside
        and any(name.split(".")[0] == package for name in imported(module, typing_too=typing_too))
    }


#: What each room of `hw_targets` may import: the drawing of the house. A room always may import itself.
#: The package itself, its loose modules (contract names) and `app` stand on top of everything.
ARROWS = {
    "errors": set(),
    "files": {"errors"},
    "ir": {"errors"},
    "chips": {"errors", "ir"},
    "passes": {"errors", "ir"},
    "emulation": {"errors", "ir"},
    "frontends": {"errors", "files", "ir", "passes", "emulation"},
    "quantization": {"errors", "ir", "chips", "passes", "emulation", "frontends"},
    "placement": {"errors", "files", "ir", "chips"},
    "estimation": {"errors", "ir", "chips", "placement"},
    "targets": {"errors", "files", "ir", "chips", "emulation", "placement", "estimation"},
}
ON_TOP = {"", "app", "fit", "network", "run_folder", "stages"}
#: Where the chip side knows the training side.
#: Everything may ask `neuroprune._require` for an extra, `_html` for a table, and `_numbers` whether a number is one.
TRAINING_SIDE = (
    *("hw_targets.app.", "hw_targets.frontends.torch.", "hw_targets.quantization.qat"),
    "hw_targets.targets.xylo.training.",
)


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_the_sources_were_found_and_read() -> None:
    assert {"neuroprune.pruning.pruner", "hw_targets.emulation.emulate", "hw_targets.app.cli"} <= set(SOURCES)
    assert "torch" in imported("hw_targets.emulation.emulate")
    assert "spikingjelly.activation_based.layer" in imported("neuroprune.frameworks.spikingjelly")
    assert "hw_targets.frontends.signals" in imported("hw_targets.frontends.torch.tracer")
    assert "h5py" in imported("hw_targets.files.new_hdf5"), "imports inside functions count"


def test_neuroprune_never_imports_hw_targets() -> None:
    """But for `python -m neuroprune`, which is the command line and which nobody imports."""
    assert importers("hw_targets", "neuroprune") == {"neuroprune.__main__"}
    assert {module for module in SOURCES if "neuroprune.__main__" in imported(module)} == set()


def test_every_room_of_hw_targets_is_drawn() -> None:
    rooms = {room(module) for module in SOURCES if module.split(".")[0] == "hw_targets"}
    assert rooms == {*ARROWS, *ON_TOP}


def test_rooms_import_only_what_the_drawing_lets_them() -> None:
    wrong = {
        f"{module} → {name}"
        for module in SOURCES
        if module.split(".")[0] == "hw_targets" and room(module) in ARROWS
        for name in imported(module)
        if name.split(".")[0] == "hw_targets" and room(name) not in {room(module), *ARROWS[room(module)]}
    }
    assert wrong == set()


def test_a_target_is_named_only_by_the_registry() -> None:
    """Loihi, as every family, is one folder and one line."""
    wrong = {
        f"{module} → {name}"
        for module in SOURCES
        if room(module) in {*ARROWS} - {"targets"} or module.startswith("hw_targets.targets.saved")
        for name in imported(module)
        if name.startswith("hw_targets.targets.") and not name.startswith("hw_targets.targets.registry")
    }
    assert wrong == set()


def test_the_chip_side_knows_the_training_side_in_few_places() -> None:
    wrong = {
        f"{module} → {name}"
        for module in SOURCES
        if module.split(".")[0] == "hw_targets" and not module.startswith(TRAINING_SIDE)
        for name in imported(module)
        if name.split(".")[0] == "neuroprune"
        and name not in ("neuroprune._require", "neuroprune._html", "neuroprune._numbers")
    }
    assert wrong == set()


def test_torch_in_hw_targets() -> None:
    packages = (
        "hw_targets.frontends.torch.",
        "hw_targets.emulation.",
        "hw_targets.targets.loihi.dynamics.",
        "hw_targets.targets.xylo.training.",
        "hw_targets.targets.dynapcnn.dynamics.",
        "hw_targets.app.",
    )
    modules = {"hw_targets.quantization.qat", "hw_targets.targets.xylo.core", "hw_targets.targets.xylo.xylosim.check"}
    modules |= {"hw_targets.targets.dynapcnn.sinabs.check"}
    found = importers("torch", "hw_targets", typing_too=False)
    assert {m for m in found if not m.startswith(packages)} <= modules
    assert {"hw_targets.frontends.torch.from_torch", "hw_targets.emulation.emulate"} <= found


def test_h5py_only_where_files_are_written_and_judged() -> None:
    allowed = {"hw_targets.targets.loihi.lava.runner"}
    found = importers("h5py", "hw_targets") | importers("h5py", "neuroprune")
    assert {m for m in found if not m.startswith(("hw_targets.files", "hw_targets.targets.loihi.netx"))} <= allowed
    assert found


def test_nir_is_imported_in_one_place() -> None:
    assert importers("nir", "hw_targets") | importers("nir", "neuroprune") == {"hw_targets.frontends.nir.writer"}


def test_spikingjelly_only_in_frameworks_and_models() -> None:
    found = importers("spikingjelly", "neuroprune")
    assert found
    assert all(m.startswith(("neuroprune.frameworks.", "neuroprune.models.")) for m in found), found
    assert importers("spikingjelly", "hw_targets") == set()


def test_xylosim_only_in_its_runner_and_samna_nowhere() -> None:
    """samna's package on PyPI runs pip when it is imported, and rockpool's for Xylo imports it."""
    assert importers("xylosim", "hw_targets") | importers("xylosim", "neuroprune") == {
        "hw_targets.targets.xylo.xylosim.runner"
    }
    for package in ("samna", "rockpool"):
        assert importers(package, "hw_targets") | importers(package, "neuroprune") == set()


def test_lava_only_in_its_runner() -> None:
    assert importers("lava", "hw_targets") | importers("lava", "neuroprune") == {"hw_targets.targets.loihi.lava.runner"}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_import_cycles(package: str) -> None:
    graph = {
        module: {n for n in imported(module, typing_too=False) if n in SOURCES and n != module}
        for module in SOURCES
        if module.split(".")[0] == package
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join([*path[path.index(module) :], module])
        if module not in done:
            for target in sorted(graph.get(module, ())):
                visit(target, (*path, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())
