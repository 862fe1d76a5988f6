"""How control's memory of keys is passed to the supervisor: the word beside its descriptor, and what makes it unchangeable."""

import fcntl

KEYS = b"keys"
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
