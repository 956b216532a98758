"""AudioLDM2 reconstruction, its losses and repairs, and DDCM compression."""

__version__ = "0.1.0"
