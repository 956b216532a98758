"""AudioLDM2 itself: front end, checkpoint, networks, prompts, schedule, generation, streaming."""

#: Samples at 16 kHz from one mel frame to the next; for what must know it without torch.
HOP = 160
#: Mel frames that the VAE turns into one latent frame.
DOWNSAMPLING = 4
