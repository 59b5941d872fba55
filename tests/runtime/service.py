"""A service for the tests: does what its arguments say, in their order, then serves or sleeps.

serve PORT      answers every GET with 200, or with what the file `status` in its folder says
listen PORT     accepts connections and says nothing
ignore-term     takes no notice of SIGTERM
child           starts a child in its own group that sleeps and ignores SIGTERM
daemon          starts a child in a session of its own that does the same
daemon-serving PORT   the same, and the child serves
say TEXT        prints a line
chat            prints a line every millisecond
flood           prints as fast as it can
exit STATUS     ends
wait SECONDS
pid-file NAME   writes its pid into a file in its folder
slow-stop SECONDS   ends so long after SIGTERM
on-hup          prints "reloaded" on SIGHUP
stack-on-quit   prints where it stands on SIGQUIT, as an openbell.service does
sleep           until it is stopped
"""

import contextlib
import faulthandler
import os
import signal
import socket
import sys
import time
from pathlib import Path


def serve(port):
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    while True:
        connection, _ = listener.accept()
        connection.recv(4096)
        found = Path("status").read_text().strip() if Path("status").exists() else ""
        status = found or "200"
        with contextlib.suppress(OSError):
            connection.sendall(f"HTTP/1.1 {status} x\r\nContent-Length: 2\r\n\r\nok".encode())
        connection.close()


def spawn_child(own_session, port=None):
    read, write = os.pipe()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if own_session:
            os.setsid()
        Path("child.pid").write_text(str(os.getpid()))
        os.write(write, b"x")
        if port:
            serve(port)
        while True:
            time.sleep(60)
    os.read(read, 1)


def end_slowly(seconds):
    def end(*_):
        time.sleep(seconds)
        sys.exit(0)

    return end


words = iter(sys.argv[1:])
for word in words:
    if word == "serve":
        serve(int(next(words)))
    elif word == "listen":
        listener = socket.create_server(("127.0.0.1", int(next(words))))
        held = []
        while True:
            held.append(listener.accept())
    elif word == "ignore-term":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif word == "child":
        spawn_child(own_session=False)
    elif word == "daemon":
        spawn_child(own_session=True)
    elif word == "daemon-serving":
        spawn_child(own_session=True, port=int(next(words)))
    elif word == "say":
        print(next(words), flush=True)
    elif word == "chat":
        while True:
            print("chat " * 20, flush=True)
            time.sleep(0.001)
    elif word == "flood":
        while True:
            print("flood " * 200, flush=True)
    elif word == "exit":
        sys.exit(int(next(words)))
    elif word == "wait":
        time.sleep(float(next(words)))
    elif word == "pid-file":
        Path(next(words)).write_text(str(os.getpid()))
    elif word == "slow-stop":
        signal.signal(signal.SIGTERM, end_slowly(float(next(words))))
    elif word == "on-hup":
        signal.signal(signal.SIGHUP, lambda *_: print("reloaded", flush=True))
    elif word == "stack-on-quit":
        faulthandler.register(signal.SIGQUIT, all_threads=True)
    elif word == "sleep":
        while True:
            time.sleep(60)
