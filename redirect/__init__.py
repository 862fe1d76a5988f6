"""What to capture, as a pure plan, and the kernel that is made to do it. Imports nothing of nodeagent; runs as root.

Reading order: settings (what is asked for) -> plan (which rules that means) -> rules (their vocabulary) -> nft (as text)
-> kernel (apply, verify, remove) -> elements (what changes while the agent runs).
"""
