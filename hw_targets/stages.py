"""The stages of a run; see `hw_targets.app.stages`."""

from hw_targets.app.stages import *  # noqa: F403 - all of its public names
