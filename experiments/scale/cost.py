from typing import NamedTuple
class Network(NamedTuple):
    x: int = 0
