"""Placing neurons on cores: `place` cuts populations into cores, `Placement` is the result, saved as an .npz."""

from hw_targets.mapping.cost import CoreUsage
from hw_targets.mapping.dead import remove_dead_neurons
from hw_targets.mapping.place import place
from hw_targets.mapping.placement import Placement, load_placement
from hw_targets.mapping.traffic import events_sent

__all__ = ["CoreUsage", "Placement", "events_sent", "load_placement", "place", "remove_dead_neurons"]
