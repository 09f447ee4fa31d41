"""Networks for Xylo on real data, from spikes to xylosim's verdict."""
