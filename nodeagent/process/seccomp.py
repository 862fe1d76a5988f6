"""The system calls that a worker may make. Everything else fails with EPERM.

EPERM and not death: the list was made by running what a worker runs, and a library that one day tries something new
and falls back must not cost a thousand connections. For an attacker the two are the same: nothing happens.
"""

import errno
from typing import NamedTuple

import pyseccomp

_O_WRITING = 0o1 | 0o2 | 0o100 | 0o1000 | 0o2000  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND
_SOCK_TYPE = 0xF  # without SOCK_NONBLOCK and SOCK_CLOEXEC
_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_SOCK_STREAM = 1
_F_HARMLESS = (0, 1, 2, 3, 4, 1030)
"""fcntl: DUPFD, GETFD, SETFD, GETFL, SETFL, DUPFD_CLOEXEC. With SETOWN and SETSIG the kernel would signal whom one names."""
_FIONBIO, _FIOCLEX, _FIONCLEX, _FIONREAD, _TCGETS = 0x5421, 0x5451, 0x5450, 0x541B, 0x5401

MEMORY = "brk mmap munmap mprotect mremap madvise membarrier memfd_create ftruncate"
DESCRIPTORS = (
    "read readv pread64 preadv write writev pwrite64 close close_range lseek dup dup2 dup3 pipe2 splice tee"
    " sendfile"
)
FILES_READ = (
    "stat lstat fstat newfstatat statx access faccessat faccessat2 readlink readlinkat getdents64 getcwd fstatfs statfs"
)
WAITING = (
    "epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 poll ppoll select pselect6 eventfd2"
    " timerfd_create timerfd_settime timerfd_gettime futex restart_syscall nanosleep clock_nanosleep sched_yield"
)
SOCKETS = (
    "accept accept4 bind listen connect getpeername getsockname getsockopt setsockopt shutdown recvfrom recvmsg recvmmsg sendto"
    " sendmsg sendmmsg"
)
CLOCK_AND_CHANCE = "clock_gettime clock_getres gettimeofday time times getrandom"
SELF = (
    "getpid getppid gettid getuid geteuid getgid getegid getresuid getresgid getgroups getrusage getrlimit"
    " sched_getaffinity uname sysinfo set_robust_list rseq set_tid_address arch_prctl exit exit_group"
)
SIGNALS = "rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait sigaltstack signalfd4"


class Only(NamedTuple):
    """A call that is allowed when this argument, masked, has this value."""

    call: str
    argument: int
    mask: int
    value: int


_INT = 0xFFFF_FFFF  # what the kernel reads of an int argument
_POINTER = 0xFFFF_FFFF_FFFF_FFFF

CONDITIONAL = (
    Only("open", 1, _O_WRITING, 0),  # modules that a library imports late; nothing is ever written
    Only("openat", 2, _O_WRITING, 0),
    *(Only("ioctl", 1, _INT, request) for request in (_FIONBIO, _FIOCLEX, _FIONCLEX, _FIONREAD, _TCGETS)),
    *(Only("fcntl", 1, _INT, command) for command in _F_HARMLESS),
    Only("prlimit64", 2, _POINTER, 0),  # asking for a limit; a new one would be a pointer
    Only("socketpair", 0, _INT, _AF_UNIX),  # the loop's own wake-up pipe
)
STREAM_FAMILIES = (_AF_INET, _AF_INET6)


def allowed_calls() -> tuple[str, ...]:
    """The calls that are allowed whatever their arguments."""
    groups = (MEMORY, DESCRIPTORS, FILES_READ, WAITING, SOCKETS, CLOCK_AND_CHANCE, SELF, SIGNALS)
    return tuple(call for group in groups for call in group.split())


def install_filter(pid: int) -> None:
    """Confines this process, whose id is `pid`, for the rest of its life.

    Raises:
        OSError: the kernel refused; the process must end.
    """
    rules = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EPERM))
    for call in allowed_calls():
        _allow(rules, call)
    for only in CONDITIONAL:
        _allow(rules, only.call, pyseccomp.Arg(only.argument, pyseccomp.MASKED_EQ, only.mask, only.value))
    for family in STREAM_FAMILIES:
        _allow(
            rules,
            "socket",
            pyseccomp.Arg(0, pyseccomp.EQ, family),
            pyseccomp.Arg(1, pyseccomp.MASKED_EQ, _SOCK_TYPE, _SOCK_STREAM),
        )
    for call, argument in (("kill", 0), ("tgkill", 0)):  # abort() and nothing else
        _allow(rules, call, pyseccomp.Arg(argument, pyseccomp.EQ, pid))
    rules.load()


def _allow(rules: pyseccomp.SyscallFilter, call: str, *arguments: pyseccomp.Arg) -> None:
    """Adds a rule; a call that this architecture does not have (open, stat on arm64) needs none."""
    try:
        number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, call)
    except OSError:
        return
    if number >= 0:
        rules.add_rule(pyseccomp.ALLOW, call, *arguments)
