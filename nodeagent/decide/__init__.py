"""Decisions: pure functions of a snapshot and the facts of one connection; a refusal is an exception that says why."""
