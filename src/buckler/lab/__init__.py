"""A virtual data centre on one machine: hosts in namespaces, real guests, no way out. For trying, teaching and testing."""
