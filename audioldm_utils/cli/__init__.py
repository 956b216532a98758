"""The command line ``audioldm-utils``."""
