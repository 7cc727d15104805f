"""The Triton kernels: each visits the scores once, in the order its file name says."""
