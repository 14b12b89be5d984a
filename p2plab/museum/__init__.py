"""The museum: protocols with one mistake each, and correct ones beside them."""

from p2plab.museum.exhibit import HEALTHY, Exhibit
from p2plab.museum.mistakes import EXHIBITS

__all__ = ["EXHIBITS", "HEALTHY", "Exhibit"]
