"""The one guarded import."""

from __future__ import annotations

import importlib
from types import ModuleType

#: How to install what no extra brings: sinabs asks for packages that it does not need here.
_LINES = {"sinabs": "pip install --no-deps sinabs==3.1.3 pbr"}


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency.

    Raises:
        ImportError: it is not installed; the message names the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        line = _LINES.get(extra, f"pip install 'neuroprune[{extra}]'")
        raise ImportError(f"{module} cannot be imported ({error}); install it with: {line}") from error
