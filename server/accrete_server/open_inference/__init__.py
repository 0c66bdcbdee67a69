"""The Open Inference Protocol (KServe v2), with what clients made for Triton need beyond it."""
