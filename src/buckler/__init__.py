"""Buckler: a shield for every virtual machine of a pool, outside the guest."""
