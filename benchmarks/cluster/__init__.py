"""Faults of a cluster: machines, Ray, the bucket and the network between them, under a steady load."""
