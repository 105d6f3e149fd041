"""The nouns of Buckler as frozen values. Imports nothing else of Buckler and does no I/O."""
