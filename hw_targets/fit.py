"""Whether a network fits a chip, told from its shapes; see `hw_targets.placement.fit`."""

from hw_targets.placement.fit import LayerFit, check_fit, cores_needed

__all__ = ["LayerFit", "check_fit", "cores_needed"]
