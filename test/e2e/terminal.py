# SPDX-License-Identifier: Apache-2.0
"""A person at a terminal: types into `microvm run -it`, resizes the window, presses Ctrl-C.

usage: terminal.py COMMAND...    Prints what was seen and exits with the command's code.
"""
import fcntl, os, pty, re, select, signal, struct, sys, termios, time

DEADLINE = time.monotonic() + 45


def resize(fd, rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def until(fd, pattern, seen=b""):
    while not re.search(pattern, seen):
        ready, _, _ = select.select([fd], [], [], DEADLINE - time.monotonic())
        if not ready:
            sys.exit(f"never saw {pattern!r} in {seen!r}")
        seen += os.read(fd, 65536)
    return seen


pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
resize(fd, 40, 100)
os.kill(pid, signal.SIGWINCH)
before = termios.tcgetattr(fd)
until(fd, rb"# ")
os.write(fd, b"until [ \"$(stty size)\" = '40 100' ]; do :; done; echo first size\n")
until(fd, rb"\nfirst size\r\n")
resize(fd, 33, 77)
os.write(fd, b"until [ \"$(stty size)\" = '33 77' ]; do :; done; echo second size\n")
until(fd, rb"\nsecond size\r\n")
# Said by the process that has the terminal: from then on Ctrl-C is for it.
os.write(fd, b"sh -c 'echo sleeping; exec sleep 1000'\n")
until(fd, rb"\nsleeping\r\n")
os.write(fd, b"\x03")
os.write(fd, b"echo still here\n")
until(fd, rb"\nstill here\r\n")
os.write(fd, b"exit 6\n")
_, status = os.waitpid(pid, 0)
after = termios.tcgetattr(fd)
print("restored" if before[:4] == after[:4] else f"not restored: {before} {after}")
sys.exit(os.waitstatus_to_exitcode(status))
