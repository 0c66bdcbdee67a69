"""Servers and learners on the machines of a Ray cluster, which places them, starts them again and counts them.

Ray is the control plane alone: no call of a client goes through it, and what must be right stays in the store.
"""
