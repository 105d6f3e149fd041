"""The record of everything: entries as leaves of a Merkle tree. Pure: it neither stores entries nor reads a clock."""
