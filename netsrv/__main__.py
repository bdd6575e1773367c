"""``python -m netsrv``, which is the command ``netsrv``."""

import sys

from netsrv.cli.serve import main

sys.exit(main())
