"""Any pre-trained network of timm, as `timm:NAME`, with the preprocessing of its configuration; needs `pip install timm`."""

from __future__ import annotations

from noisybench.backbones import ImageBackbone
from noisybench.errors import UserError, nearest
from noisybench.utils.files import first_line

EXAMPLE = "resnet18"


def load(name: str) -> ImageBackbone:
    """Return a network of timm without its classifier, with its published weights.

    Args:
        name: name in timm.

    Raises:
        UserError: timm is not installed, has no network of that name, or its weights cannot be had.
    """
    try:
        import timm
        from timm.data.config import resolve_data_config
    except ImportError:
        raise UserError("--backbone: timm is not installed; run `python -m pip install timm`") from None
    known = timm.list_pretrained()
    if name not in known and name not in timm.list_models():
        raise UserError(f"--backbone: timm has no network `{name}`; {nearest(name, known)}")
    try:
        network = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # libraries raise many types for failed downloads
        raise UserError(
            f"--backbone: the weights of timm:{name} cannot be downloaded ({first_line(error)}); download them on another "
            "machine into the cache of Hugging Face, or use a backbone whose weights are installed, such as efficientnet_lite0"
        ) from None
    settings = resolve_data_config({}, model=network)  # type: ignore[no-untyped-call]
    return ImageBackbone(
        network, settings["input_size"][1], settings["mean"], settings["std"], settings["interpolation"]
    )
