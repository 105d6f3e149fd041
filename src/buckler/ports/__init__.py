"""The doors to the world: one small Protocol per file, in the words of the domain."""
