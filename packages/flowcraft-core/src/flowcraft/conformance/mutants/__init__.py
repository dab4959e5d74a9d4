"""Backends that are broken on purpose, each in one way: the proof that the checks find what they are there for."""

from flowcraft.conformance.mutants.engine import mutants as of_engines
from flowcraft.conformance.mutants.mutant import Mutant
from flowcraft.conformance.mutants.ports import mutants as of_ports

__all__ = ["MUTANTS", "Mutant"]

MUTANTS: tuple[Mutant, ...] = (*of_ports, *of_engines)
