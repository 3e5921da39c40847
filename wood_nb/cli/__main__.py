"python -m wood_nb.cli: the command `wood`"

import sys

from .main import main

sys.exit(main())
