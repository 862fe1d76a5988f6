"""Identity material: SPIFFE IDs, SVIDs, trust bundles, CSRs, a local CA. Opens no socket, reads no clock."""
