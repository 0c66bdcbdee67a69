"""A step over several devices: ranks, processes that each take a share of every batch and hold the same network.

Ranks change how fast a step is and not what it learns: batches are as large as without them, every loss is computed of
the whole batch on every rank, and in float64 the weights are those of one process.
"""

from accrete_learner.ranks.group import ALONE, Group, Shard

__all__ = ["ALONE", "Group", "Shard"]
