"""Makes the modules beside it importable, in other processes too: a component is unpickled there."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
