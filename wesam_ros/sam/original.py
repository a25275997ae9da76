"""segment_anything's own modules that this package builds on, imported without torchvision."""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec


def _import_modules() -> None:
    """Imports segment_anything's modules, without its `__init__`, which imports torchvision for two functions of its predictor.

    That takes two seconds, for which a robot waits when a node is started again, and fails where torchvision's compiled operators are of
    another build than torch. Afterwards `import segment_anything` imports the whole package as ever, with these modules in it.
    """
    name = "segment_anything"
    if name in sys.modules:
        return
    found = find_spec(name)
    if found is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    sys.modules[name] = module_from_spec(found)  # in its place, but not run
    try:
        import segment_anything.build_sam  # noqa: F401
    finally:
        del sys.modules[name]


_import_modules()

from segment_anything.modeling.image_encoder import Attention as Attention  # noqa: E402
from segment_anything.modeling.image_encoder import get_rel_pos as get_rel_pos  # noqa: E402
from segment_anything.modeling.mask_decoder import MLP as MLP  # noqa: E402
from segment_anything.modeling.mask_decoder import MaskDecoder as MaskDecoder  # noqa: E402
from segment_anything.modeling.prompt_encoder import PromptEncoder as PromptEncoder  # noqa: E402
