"""SynSense's xylosim as the judge of Xylo's integers."""
