"""Everything that trains or runs a network of MMDetection, and what MMDetection needs for it.

Importing this package makes ``mmdet`` importable, with compiled operators or without
(:mod:`s4m_pipeline.models.openmmlab`). Its other modules rely on that.
"""

from s4m_pipeline.models.openmmlab import make_importable

make_importable()
