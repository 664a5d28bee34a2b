"""The address that job scripts written by version 0.1 call, `python -m mvpde.points`: kept for one release."""

from __future__ import annotations

import sys

from mvpde.studies.points import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
