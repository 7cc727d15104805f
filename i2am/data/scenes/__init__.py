"""A world of words: prompts whose parse is known, pictures whose every word has its pixels.

Begin with: `grammar.py`, what can be said; `layout.py` places it and `render.py` draws it.
"""

from i2am.data.scenes.disk import write_scenes
from i2am.data.scenes.grammar import COLOURS, SHAPES, Sentence, Thing, Word
from i2am.data.scenes.render import SIZE, Scenes, draw_scenes

__all__ = ["COLOURS", "SHAPES", "SIZE", "Scenes", "Sentence", "Thing", "Word", "draw_scenes", "write_scenes"]
