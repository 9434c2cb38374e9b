"""Any pre-trained network of timm, as `timm:NAME`, with the preprocessing of its configuration; needs `pip install timm`."""

from __future__ import annotations

from noisybench.backbones import ImageBackbone
from noisybench.backbones._hub import check_reachable, is_cached, quiet_hub
from noisybench.errors import UserError, nearest
from noisybench.utils.files import first_line

EXAMPLE = "resnet18"


def load(name: str, size: int | None = None) -> ImageBackbone:
    """Return a network of timm without its classifier, with its published weights.

    Args:
        name: name in timm.
        size: side in pixels to which images are resized (default: that of its pre-training).

    Raises:
        UserError: timm is not installed, has no network of that name, or its weights cannot be had.
    """
    try:
        with quiet_hub():
            return _create(name, size, pretrained=True)
    except UserError:
        raise
    except Exception as error:  # libraries raise many types for failed downloads
        raise UserError(
            f"--backbone: the weights of timm:{name} cannot be downloaded ({first_line(error)}); download them on another "
            "machine into the cache of Hugging Face, or use a backbone whose weights are installed, such as efficientnet_lite0"
        ) from None


def untrained(name: str, size: int | None = None) -> ImageBackbone:
    """Return a network of timm without its classifier, with random weights, for those of a checkpoint.

    Args:
        name: name in timm.
        size: side in pixels to which images are resized (default: that of its pre-training).

    Raises:
        UserError: timm is not installed, or has no network of that name.
    """
    return _create(name, size, pretrained=False)


def _create(name: str, size: int | None, pretrained: bool) -> ImageBackbone:
    try:
        import timm
        from timm.data.config import resolve_data_config
    except ImportError:
        raise UserError("--backbone: timm is not installed; run `python -m pip install 'noisybench[timm]'`") from None
    known = timm.list_pretrained()
    if name not in known and name not in timm.list_models():
        raise UserError(f"--backbone: timm has no network `{name}`; {nearest(name, known)}")
    if pretrained:
        source = getattr(timm.get_pretrained_cfg(name), "hf_hub_id", None)
        # Some networks have their weights elsewhere.
        if source is not None and not is_cached(source):
            check_reachable(source)
    network = timm.create_model(name, pretrained=pretrained, num_classes=0)
    settings = resolve_data_config({}, model=network)  # type: ignore[no-untyped-call]
    return ImageBackbone(
        network, size or settings["input_size"][1], settings["mean"], settings["std"], settings["interpolation"]
    )
