"""The intermediate representation: networks of populations and synapses, and what one asks of them."""
