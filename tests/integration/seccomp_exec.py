"""seccomp_exec.py ERRNO COMMAND...: runs COMMAND with io_uring refused, as a container's seccomp profile refuses it."""
import ctypes
import errno
import os
import struct
import sys

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
RET_ALLOW, RET_ERRNO = 0x7FFF0000, 0x00050000
IO_URING = (425, 426, 427)  # setup, enter, register: the same numbers on every architecture
LOAD_WORD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def main():
    code = getattr(errno, sys.argv[1])
    steps = [(LOAD_WORD, 0, 0, 0)]  # seccomp_data.nr
    for i, number in enumerate(IO_URING):
        steps.append((JUMP_EQUAL, len(IO_URING) - i, 0, number))
    steps += [(RETURN, 0, 0, RET_ALLOW), (RETURN, 0, 0, RET_ERRNO | code)]
    program = Program(len(steps), b"".join(struct.pack("HBBI", *step) for step in steps))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0),
    ):
        if libc.prctl(*arguments) != 0:
            sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
