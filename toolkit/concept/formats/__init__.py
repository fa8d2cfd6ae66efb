"""Concepts in other programs' formats."""
