"""Objectives as graph: how a layer's value becomes one scalar per sample, and what that sends back.

A *head* is the part of a graph that reads one layer in one *form* (`forms`). What differs from request to request (channel,
direction, target, power, scale) is an input of the graph, which `kinds` makes from the terms; so one graph serves every
channel, unit and target of a layer. `formulas` writes what a head computes, `append` puts heads in front of a
vector-Jacobian product, `terms` tells those that a graph computes from those of the image.
"""

from gradserve_server.graph.objectives.append import append_heads
from gradserve_server.graph.objectives.forms import VALUE, Form, Head
from gradserve_server.graph.objectives.kinds import Weights, depends_on_count, heads
from gradserve_server.graph.objectives.terms import Terms

__all__ = ["VALUE", "Form", "Head", "Terms", "Weights", "append_heads", "depends_on_count", "heads"]
