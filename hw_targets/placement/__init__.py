"""Placing neurons on cores: `place` cuts populations into cores, `Placement` is the result, saved as an .npz."""

from hw_targets.placement.cores.cost import CoreUsage
from hw_targets.placement.mesh.traffic import events_sent
from hw_targets.placement.place import place
from hw_targets.placement.placement import Placement

__all__ = ["CoreUsage", "Placement", "events_sent", "place"]
