"""Small reference networks for the demo, the benchmarks and the tests."""
