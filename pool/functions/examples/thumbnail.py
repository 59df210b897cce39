# SPDX-License-Identifier: Apache-2.0
"""An image on stdin, a PNG of at most 128 by 128 on stdout."""

import io
import sys

from PIL import Image, PngImagePlugin, JpegImagePlugin  # here, so that a primed one has them loaded

data = sys.stdin.buffer.read()
try:
    image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
    image.thumbnail((128, 128))
    out = io.BytesIO()
    image.convert("RGBA").save(out, "PNG")
except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
    sys.stdout.write(f"Status: 422\nContent-Type: text/plain\n\n{error}\n")
    sys.exit()
sys.stdout.write("Content-Type: image/png\n\n")
sys.stdout.flush()
sys.stdout.buffer.write(out.getvalue())
