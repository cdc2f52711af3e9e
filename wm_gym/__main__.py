"""What does `python -m wm_gym` do? The same as the `wm-gym` command; it works from a bare checkout."""

import sys

from wm_gym.cli import main

if __name__ == "__main__":
    sys.exit(main())
