"""`python -m mvpde` is `mvpde`."""

from __future__ import annotations

import sys

from mvpde.cli.main import main

sys.exit(main())
