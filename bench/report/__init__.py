# SPDX-License-Identifier: Apache-2.0
"""What a run of brood-bench found, for people to read.

run -> findings (stats) -> questions (draw, table) -> page, summary; claims and comparison beside.
Everything is computed from a run's folder, and from nothing else.
"""
