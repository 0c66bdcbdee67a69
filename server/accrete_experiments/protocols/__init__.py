"""Class-incremental protocols: a data set, an order of its classes, a stream of tasks, and what is measured."""
