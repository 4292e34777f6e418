"""The versions: kept whole, one of them live, and what blind votes say of each.

Left out: how a version comes to be (training).
"""
