"""Export a model as a folder: ``python -m harmonizer.export ckpt=FILE|model=NAME [out=DIR]``.

The folder holds ``model.safetensors``, ``config.json`` and a model card, ``README.md``. ``evaluate.py --model DIR``
measures it. timm loads timm models by ``timm.create_model("local-dir:DIR", pretrained=True)``, or only the weights by
``checkpoint_path=``.
"""

from harmonizer.export.folder import export, export_model, push

__all__ = ["export", "export_model", "push"]
