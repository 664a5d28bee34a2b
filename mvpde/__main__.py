"""`python -m mvpde` is `mvpde`."""

from __future__ import annotations

import sys

from mvpde.cli import main

sys.exit(main())
