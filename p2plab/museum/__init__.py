"""The museum: protocols with one mistake each, and correct ones beside them."""

from p2plab.museum.exhibit import Exhibit
from p2plab.museum.healthy import HEALTHY
from p2plab.museum.mistakes import EXHIBITS

__all__ = ["EXHIBITS", "HEALTHY", "Exhibit"]
