"""Measurements, side by side in one run; `make bench` prints a table. Not tests: nothing here asserts a speed."""
