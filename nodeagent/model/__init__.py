"""The mesh's vocabulary: frozen values without I/O, clock or behaviour beyond validity."""
