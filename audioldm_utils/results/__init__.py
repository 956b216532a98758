"""One long table of results: written, read, summarised, compared, kept as evidence."""
