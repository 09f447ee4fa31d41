"""SynSense Xylo: one core of integer neurons whose decays are bit shifts, judged by xylosim."""
