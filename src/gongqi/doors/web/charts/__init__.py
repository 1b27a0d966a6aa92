"""The pictures of the console, drawn on the server as SVG; this is all of them.

Each function is pure: values and words in, one Markup out that holds two drawings, for a desktop column and for a
telephone; console.css shows the one that fits its container. The words arrive already in the reader's language. There
are no legends: everything carries its label beside it. The table behind a picture is the work of the `picture` macro
(macros.html). `drawing` knows how much room a text takes; names are wrapped or shortened to the room they have, so that
no two texts overlap, and hovering shows the whole name.
"""

from gongqi.doors.web.charts.chain import Count, Layer, chain_picture
from gongqi.doors.web.charts.distributions import histogram
from gongqi.doors.web.charts.graphs import Edge, Node, lineage_graph, merkle_path, merkle_siblings
from gongqi.doors.web.charts.values import (
    CalibrationBin,
    GateSeal,
    Group,
    balance_over_time,
    calibration_plot,
    gate_row,
    grouped,
    percent,
    subgroup_bars,
    waterfall,
)

__all__ = [
    "CalibrationBin",
    "Count",
    "Edge",
    "GateSeal",
    "Group",
    "Layer",
    "Node",
    "balance_over_time",
    "calibration_plot",
    "chain_picture",
    "gate_row",
    "grouped",
    "histogram",
    "lineage_graph",
    "merkle_path",
    "merkle_siblings",
    "percent",
    "subgroup_bars",
    "waterfall",
]
