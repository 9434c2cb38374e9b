"""Cached arrays of decoded images: made again where a file is damaged, and a cache folder that cannot be used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from noisybench.data.geometry import Geometry
from noisybench.data.images.cache import DecodedImages, read_files
from noisybench.data.images.decoding import DecodedImage, DecodingRules, EncodedImage, decode
from noisybench.data.masks.masks import read_pairs
from noisybench.errors import UserError
from noisybench.utils.files import NoHomeFolder, cache_folder


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setenv("NOISYBENCH_CACHE", str(tmp_path / "cache"))
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(path)
    return paths


def first_pixels(decoded: DecodedImages) -> list[int]:
    return [int(image[0, 0, 0]) for image in decoded.images]


@pytest.mark.parametrize(
    ("pattern", "content"), [("*.npy", b""), ("*.npy", b"\x93NUMPY"), ("*.json", b"{"), ("*.json", b"[1]")]
)
def test_a_damaged_array_of_images_is_decoded_again(
    pattern: str, content: bytes, files: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert first_pixels(read_files(files, None)) == [0, 1, 2]
    next((tmp_path / "cache" / "decoded").glob(pattern)).write_bytes(content)
    assert first_pixels(read_files(files, None)) == [0, 1, 2]
    assert "it is made again" in caplog.text
    assert list((tmp_path / "cache" / "decoded").glob("*.damaged-1"))


def test_arrays_of_interrupted_commands_are_deleted_in_time(files: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "decoded"
    folder.mkdir(parents=True)
    no_process = 2**22 + 1  # above the largest process id
    old, new, running = (
        folder / f".partial-{name}.npy" for name in (f"{no_process}.a", f"{no_process}.b", f"{os.getpid()}.c")
    )
    for path in (old, new, running):
        path.touch()
    for path in (old, running):
        os.utime(path, (0, 0))
    read_files(files, None)
    assert [path.exists() for path in (old, new, running)] == [False, True, True]


@pytest.mark.parametrize("name", ["images.npy", "masks.npy", "done.json"])
def test_damaged_arrays_of_masks_are_decoded_again(name: str, files: list[Path], tmp_path: Path) -> None:
    masks = [tmp_path / f"mask-{number}.png" for number in range(3)]
    for number, path in enumerate(masks):
        Image.fromarray(np.full((4, 4), number, dtype=np.uint8)).save(path)
    groups = list(zip(files, masks, strict=True))
    first = read_pairs(groups, Geometry(None), "raise")
    next((tmp_path / "cache" / "pairs").rglob(name)).write_bytes(b"{")
    assert np.array_equal(read_pairs(groups, Geometry(None), "raise").masks, first.masks)


def test_a_cache_folder_that_cannot_be_written_is_named(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "occupied").write_text("a file")
    for folder in (tmp_path / "occupied", Path("/proc/cache")):
        monkeypatch.setenv("NOISYBENCH_CACHE", str(folder))
        with pytest.raises(UserError, match=r"the cache folder .* cannot be written .*set NOISYBENCH_CACHE"):
            read_files(files, None)


def test_a_missing_home_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOISYBENCH_CACHE")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: Path("~/.cache") / name)
    with pytest.raises(NoHomeFolder, match="set NOISYBENCH_CACHE"):
        cache_folder()

    def refuse(name: str) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr("platformdirs.user_cache_path", refuse)
    with pytest.raises(NoHomeFolder, match="set NOISYBENCH_CACHE"):
        cache_folder()


def test_a_full_disk_refuses_an_array_and_kills_no_process(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(tmp_path / "small")]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("mounting needs root")
    code = (
        "import sys\nfrom pathlib import Path\nfrom noisybench.data.images.cache import read_files\n"
        "from noisybench.errors import UserError\n"
        "try:\n    read_files([Path(name) for name in sys.argv[1:]], 256)\n"
        "except UserError as error:\n    print(error)\n"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, files)], capture_output=True, text=True, check=False,
            env={**os.environ, "NOISYBENCH_CACHE": str(tmp_path / "small" / "cache")},
        )  # fmt: skip
    finally:
        subprocess.run(["umount", "-l", str(tmp_path / "small")], check=True)
    assert done.returncode == 0, done.stderr
    assert "No space left on device" in done.stdout


def test_another_decoder_or_other_rules_decode_again(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def count(image: EncodedImage, size: int | None, rules: DecodingRules) -> DecodedImage:
        read.append(rules)
        return decode(image, size, rules)

    monkeypatch.setattr("noisybench.data.images.cache.decode", count)
    for _ in range(2):
        read_files(files, None)
    assert len(read) == 3
    read_files(files, None, rules=DecodingRules(transparent_color="black"))
    read_files(files, None, rules=DecodingRules((0, 4095)))
    assert len(read) == 9
    monkeypatch.setattr("PIL.__version__", "9999.0")
    read_files(files, None)
    assert len(read) == 12
