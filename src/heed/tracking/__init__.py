"""Mirrors of the local record."""
