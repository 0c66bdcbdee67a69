"""Class-incremental protocols: a data set, an order of its classes, a stream of phases, and what is measured."""
