"""Widths of DYNAP-CNN's integers.

Source: sinabs 3.1.3 `backend/dynapcnn/discretize.py` (8 bits for weights and biases, 16 for thresholds and states).
"""

WEIGHT_BITS = 8
STATE_BITS = 16

WEIGHT_LOW, WEIGHT_HIGH = -(1 << (WEIGHT_BITS - 1)), (1 << (WEIGHT_BITS - 1)) - 1
STATE_LOW, STATE_HIGH = -(1 << (STATE_BITS - 1)), (1 << (STATE_BITS - 1)) - 1

#: Spikes that a neuron may send in one step here: what an activity's bytes hold.
MOST_SENT = 255
