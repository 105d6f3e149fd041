"""Measurements on a lab: what the benchmarks are made of."""
