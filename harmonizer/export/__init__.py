"""Write a model as a folder that is a name: ``python -m harmonizer.export ckpt=FILE|model=NAME [out=DIR]``.

The folder holds ``model.safetensors``, ``config.json`` and a model card, ``README.md``. ``evaluate.py --model DIR``
measures it. timm loads its own models by ``timm.create_model("local-dir:DIR", pretrained=True)``, or the weights alone
by ``checkpoint_path=``.
"""

from harmonizer.export.folder import export, export_model, push

__all__ = ["export", "export_model", "push"]
