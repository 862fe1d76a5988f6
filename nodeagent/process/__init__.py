"""Processes: who runs, as whom, with which sockets and which privileges."""
