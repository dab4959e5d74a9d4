"""Tests of the two embedded backends against the ports, and of what is special to a file."""
