"""Config entries as frozen values: Consul's kinds and our own, each field as it was said; what was not said is empty."""
