"""Runs joined into cells, cells into studies, and the ledger of both."""
