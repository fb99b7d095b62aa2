"""probekit: linear classifier probes for the intermediate tensors of neural networks.

The names below are what a plugin may use.
"""

__version__ = "0.1.0"
