"""`python -m pyinfer`"""

import sys

from pyinfer.cli.main import main

sys.exit(main())
