"""The agent's durable state in one SQLite file. Owns no meaning: it keeps what it is given."""
