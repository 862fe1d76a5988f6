"""What a disk may hold after a power cut, by the calls that a program made: what was synced, and of the rest any part.

Read from `strace -f -y -xx -e trace=` CALLS. As strict as POSIX: a name is safe once its directory was synced.
"""

import re
from pathlib import Path

CALLS = "openat,pwrite64,write,ftruncate,fsync,fdatasync,rename,unlink,sendto"
_LINE = re.compile(r"(\d+) +(\w+)\((.*)$", re.DOTALL)
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)$", re.DOTALL)
_TEXT = re.compile(r'[<"]((?:\\x[0-9a-f]{2})*)[>"]')
_FAILED = re.compile(r"= -1 E")


def calls_of(trace: Path):
    """Each call that succeeded as name, its texts and its other arguments; a sync counts when it has returned, all else when it began."""
    begun: dict[str, tuple[str, str]] = {}
    for line in trace.read_text().splitlines():
        if resumed := _RESUMED.match(line):
            pid, name, _ = resumed.groups()
            if name in ("fsync", "fdatasync") and not _FAILED.search(line):
                yield _parsed(name, begun.pop(pid)[1])
        elif (call := _LINE.match(line)) and not _FAILED.search(line):
            pid, name, rest = call.groups()
            if rest.endswith("<unfinished ...>") and name in ("fsync", "fdatasync"):
                begun[pid] = name, rest
            else:
                yield _parsed(name, rest)


def _parsed(name, rest):
    texts = [bytes.fromhex(text.replace("\\x", "")) for text in _TEXT.findall(rest)]
    return name, texts, [word for word in re.split(r"[(), =]+", _TEXT.sub(" ", rest)) if word]


class _File:
    def __init__(self):
        self.safe = b""
        self.pending = []

    def after(self, keep):
        """Its bytes, when of the changes since it was synced those happened that `keep` says."""
        made = bytearray(self.safe)
        for at, data in self.pending:
            if not keep():
                continue
            if data is None:
                del made[at:]
                made.extend(bytes(at - len(made)))
                continue
            made.extend(bytes(max(at - len(made), 0)))
            made[at : at + len(data)] = data
        return bytes(made)

    def apply(self, name, texts, words):
        whole = self.after(lambda: True)
        match name:
            case "write":
                self.pending.append((len(whole), texts[0]))
            case "pwrite64":
                self.pending.append((int(words[2]), texts[0]))
            case "ftruncate":
                self.pending.append((int(words[1]), None))
            case _:
                self.safe, self.pending = whole, []


class CutDisk:
    """The files of one directory."""

    def __init__(self, directory: Path):
        self._below = f"{directory}/".encode()
        self._directory = str(directory).encode()
        self.names: dict[bytes, _File] = {}
        self.safe_names: dict[bytes, _File] = {}

    def apply(self, name, texts, words):
        """One call. What is not of this directory changes nothing."""
        path = texts[1] if name == "openat" and len(texts) > 1 else texts[0] if texts else b""
        if path == self._directory and name in ("fsync", "fdatasync"):
            self.safe_names = dict(self.names)
        if not path.startswith(self._below) or path.endswith((b"-shm", b".lock")):
            return
        match name:
            case "openat" if "O_CREAT" in " ".join(words) or path in self.names:
                file = self.names.setdefault(path, _File())
                if "O_TRUNC" in " ".join(words):
                    file.pending.append((0, None))
            case "rename":
                self.names[texts[1]] = self.names.pop(path)
            case "unlink":
                self.names.pop(path)
            case "write" | "pwrite64" | "ftruncate" | "fsync" | "fdatasync":
                self.names[path].apply(name, texts[1:], words)

    def write(self, directory: Path, keep):
        """Makes the directory as it is found after a cut. keep: whether a change that was not synced happened."""
        directory.mkdir(mode=0o700)
        names = self.names if keep() else self.safe_names
        for path, file in names.items():
            target = directory / path[len(self._below) :].decode()
            target.write_bytes(file.after(keep))
            target.chmod(0o600)
