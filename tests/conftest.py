"""Puts the repository and this folder on the path, so that rooms share worlds, packets and hosts for tests."""

import sys
from pathlib import Path

_HERE = Path(__file__).parent
sys.path[:0] = [str(place) for place in (_HERE, _HERE.parent) if str(place) not in sys.path]
