"""The list of allowed calls. That it holds, and that it is enough, is tried on real workers in tests/e2e."""

import pyseccomp
import pytest

from nodeagent.process.seccomp import CONDITIONAL, STREAM_FAMILIES, allowed_calls

DANGEROUS = (
    "execve execveat fork vfork clone clone3 ptrace process_vm_readv process_vm_writev mount umount2 pivot_root chroot"
    " unshare setns bpf perf_event_open kexec_load init_module finit_module setuid setgid setresuid setresgid setgroups"
    " capset prctl seccomp socket kill tkill tgkill open openat openat2 creat unlink unlinkat rename renameat2 mkdir link"
    " symlink chmod fchmod chown fchown truncate mknod io_uring_setup io_uring_enter io_uring_register userfaultfd keyctl"
    " add_key request_key ioctl prlimit64 setrlimit open_by_handle_at name_to_handle_at pidfd_getfd pidfd_send_signal"
    " fcntl process_madvise quotactl swapon reboot settimeofday clock_settime personality iopl ioperm shmget shmat"
)


@pytest.mark.parametrize("call", DANGEROUS.split())
def test_no_call_that_reaches_beyond_the_process_is_allowed_whatever_its_arguments(call: str) -> None:
    """Some are allowed for one argument only."""
    assert call not in allowed_calls()


def test_every_name_is_a_call_and_stands_there_once() -> None:
    """A misspelt name would silently allow nothing."""
    calls = allowed_calls()
    assert len(calls) == len(set(calls))
    for call in (*calls, *(only.call for only in CONDITIONAL)):
        assert pyseccomp.resolve_syscall(pyseccomp.Arch.X86_64, call) >= 0, call


def test_sockets_are_tcp_only() -> None:
    """IPv4 and IPv6."""
    assert STREAM_FAMILIES == (2, 10)
