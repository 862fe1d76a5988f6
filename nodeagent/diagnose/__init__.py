"""What is well, doubtful or wrong on a host: facts that probes gathered → findings with a cure each. Pure."""
