"""The laptop stack: real processes of every part on one machine, with mock providers."""
