"""The recipe that trained the shipped checkpoint; nothing else of the package uses it."""
