"""Large values outside of the run store: the claim check around any store, and a directory to keep the values in."""

from flowcraft.values.files import FileValueStore
from flowcraft.values.offloading import OffloadingStore

__all__ = ["FileValueStore", "OffloadingStore"]
