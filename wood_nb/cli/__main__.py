"python -m wood_nb.cli: the command `wood`"

import sys

from .parser import main

sys.exit(main())
