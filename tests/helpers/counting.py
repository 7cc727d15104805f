"""A backend of torch.compile that counts what it compiles."""

from __future__ import annotations

import torch


class Counting:
    """A compiler backend that remembers its graphs."""

    def __init__(self, name):
        self.name, self.graphs = name, []

    def __call__(self, graph, inputs):
        self.graphs.append(graph)
        return torch._dynamo.lookup_backend(self.name)(graph, inputs)

    def nodes(self):
        return [node.target for graph in self.graphs for node in graph.graph.nodes if "i2am_kernels" in str(node.target)]
