"""The demo's story, step by step. Each step returns what it measured; the demo tells it, the system tests assert it."""
