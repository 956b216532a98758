"""The reconstruction methods: ``base`` what they share, ``cost`` what they are charged for.

``repair`` holds the VAE and its repairs, ``diffusion`` the methods that run the UNet, ``codec``
those of the DDCM library. :mod:`audioldm_utils.methods.registry` lists and runs them.
"""
