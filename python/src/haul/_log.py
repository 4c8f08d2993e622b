# SPDX-License-Identifier: Apache-2.0
"""haul's log lines, to logging.getLogger("haul").

haul logs from threads that must not wait for the GIL, so its lines come through a pipe, which a thread
of ours reads."""

import logging
import os
import threading

from . import _haul

logger = logging.getLogger("haul")
_LEVELS = {"1": logging.ERROR, "2": logging.WARNING, "3": logging.INFO, "4": logging.DEBUG}
_lock = threading.Lock()
_running = False


def _read(fd: int) -> None:
    with os.fdopen(fd, errors="replace") as lines:
        for line in lines:
            level, _, text = line.rstrip("\n").partition(" ")
            logger.log(_LEVELS.get(level, logging.INFO), "%s", text)


def start() -> None:
    """Once in each process, before its first context."""
    global _running
    with _lock:
        if _running:
            return
        _running = True
        read_fd, write_fd = os.pipe()
        os.set_blocking(write_fd, False)
        threading.Thread(target=_read, args=(read_fd,), name="haul-log", daemon=True).start()
        _haul.log_to(write_fd)


def forget() -> None:
    """In a child of fork(), which has no such thread: lines go to standard error until start()."""
    global _running, _lock
    _lock = threading.Lock()
    _running = False
    _haul.log_to(-1)
