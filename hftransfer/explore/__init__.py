"""A page on which every point of a 2-D map can be looked at, offline: `write(folder, Page(...))`.

Why Apache ECharts draws the points (measured with 50 000 points of ten colours on two cores without a GPU, headless
Chromium 150; milliseconds to the first picture, median of a hover, mean of a zoom step):

    library, minified for this use     KB    first  hover   zoom   WebGL  evaluates code  lasso
    ECharts 6.1, canvas, large mode    523     306     17     41   no     no              built in
    ECharts, ordinary mode             523    1044     17    167   no     no              built in
    regl-scatterplot 1.16              224     828     93     56   yes    yes             built in
    regl-scatterplot, fast settings    224     505     88     47   yes    yes             built in

With 200 000 points a zoom step costs 130 ms in ECharts' large mode and 115 in regl-scatterplot, a hover 17 and 223.
A GPU makes regl-scatterplot the faster one; but without WebGL it draws nothing, it builds its shaders by `Function`,
which a strict Content-Security-Policy forbids, and regl itself has had no release since 2024. Not measured: deck.gl
(854 KB, no lasso), plotly's 2-D WebGL bundle (1595 KB, evaluates code), uPlot (51 KB, no lasso and no scatter to hover
over), embedding-atlas (WebGPU, and a database in WebAssembly), datamapplot (its JavaScript comes from a network).

ECharts is Apache-2.0, kept by the Apache Software Foundation; `vendor/` has the parts that are used, their licences
and, in `origin.json`, what they were built from (tools/vendor_echarts.py).
"""

from hftransfer.explore.page import Page
from hftransfer.explore.writing import write

__all__ = ["Page", "write"]
