"""The store on SQLite (default) or PostgreSQL: the same SQLAlchemy Core code. Owns rows, not what they mean."""
