"""Run folders; see `hw_targets.app.run_folder`."""

from hw_targets.app.run_folder import RunFolder

__all__ = ["RunFolder"]
