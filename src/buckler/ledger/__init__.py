"""The record of everything as a signed, append-only hash chain. Pure: it neither stores entries nor reads a clock."""
