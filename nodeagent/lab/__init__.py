"""Hosts as network namespaces on one machine: to learn, to rehearse policy, and for the end-to-end tests."""
