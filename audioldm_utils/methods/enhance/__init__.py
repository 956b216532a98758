"""Repairs of what AudioLDM2's VAE and vocoder lose or add.

``bands`` compensates mel bands (blind, or with side information), ``bandwidth`` extends above
8 kHz, ``phase`` makes a waveform agree with its mel, ``noise`` measures and suppresses
artefacts, ``latent`` refines latents by gradient steps; ``coding`` counts every bit of side
information by writing it, ``stft`` is the common frame grid.
"""
