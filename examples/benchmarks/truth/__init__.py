"""Networks made up at random, and the proof that each spikes as we say."""
