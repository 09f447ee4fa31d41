"""sinabs, SynSense's own simulator, as the judge of DYNAP-CNN's integers."""
