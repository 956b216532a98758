"""Notebooks run, pages staged, the book built; figures and players."""
