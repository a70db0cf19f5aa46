"""The embedded world: tiny students, teachers of known quality, verifiable tasks."""
