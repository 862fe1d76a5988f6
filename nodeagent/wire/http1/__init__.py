"""HTTP/1.1: bytes to messages as they were understood, and messages to bytes. Without I/O, and without doubt."""
