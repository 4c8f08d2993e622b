# SPDX-License-Identifier: Apache-2.0
"""python -m haul: the command."""

import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    command = os.path.join(os.path.dirname(__file__), "bin", "haul")
    try:
        os.execv(command, ["haul", *sys.argv[1:]])
    except OSError as error:
        sys.exit(f"haul: cannot run {command}: {error.strerror}")


if __name__ == "__main__":
    main()
