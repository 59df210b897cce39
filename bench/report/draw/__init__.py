# SPDX-License-Identifier: Apache-2.0
"""Charts as SVG that can be read on a phone, in the dark and on paper.

canvas (a figure, its text, its SVG) <- scale (axes) <- dots, lines, waterfall: one file a kind.
Each chart is drawn for two widths, and colours are the page's: see ../chart.css.
"""
