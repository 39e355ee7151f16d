"""Generation: request, limits, layout, generator, gang, stages, parallel, platforms, models, media.

Imports nothing of ours, and no torch before a rank asks for it.
"""
