"""Charts as SVG, drawn by hand so that they can be read on a phone, in the dark and on paper.

canvas (elements, text) <- scale (axes' arithmetic) <- dots, lines, waterfall: one file a kind.
Each chart is drawn for two widths, and colours are the page's: see ../chart.css.
"""
