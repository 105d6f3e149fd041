"""A driver for every port that keeps its world in memory: the same contracts, no kernel and no daemon."""
