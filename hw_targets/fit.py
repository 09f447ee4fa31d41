"""Whether a network fits a chip, told from its shapes; see `hw_targets.placement.fit`."""

from hw_targets.placement.fit import Fit, LayerFit, check_fit, cores_needed

__all__ = ["Fit", "LayerFit", "check_fit", "cores_needed"]
