"""Recordings: any format in, one signal in memory, the clips of a folder, captions from names."""
