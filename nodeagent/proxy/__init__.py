"""The data plane's shell: the only place where payload bytes exist. Decisions come from `decide`."""
