"""Recordings: any format in, one signal in memory, the clips of a folder, captions from names."""

#: Sample rate of AudioLDM2's front end, Hz.
MODEL_RATE = 16000
