"""Pictures of the tables: matplotlib Axes in, Axes out.

Each picture is a function ``draw(subject, *, ax=None, **options) -> Axes`` and a `registry.Plot` in a module here:

* of one connection (`observer.flow.Flow`): ladder, sequence;
* of all (`observer.observation.Observation`): states, and what the other modules here declare.

`draw` finds one by its name, `draw_all` writes what is worth looking at as files.  Nothing here imports matplotlib
until something is drawn.

Never here: reading captures, inferring states.
"""

from __future__ import annotations

from observer.plots.files import Drawn, draw, draw_all

__all__ = ["Drawn", "draw", "draw_all"]
