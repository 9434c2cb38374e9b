"""setup.cfg names every folder of code and every file of data that the wheel must hold."""

import configparser
import fnmatch
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
SETTINGS = configparser.ConfigParser()
SETTINGS.read(ROOT / "setup.cfg")


def lines_of(section: str, option: str) -> list[str]:
    return [line.strip() for line in SETTINGS[section][option].split("\n") if line.strip()]


def files_by_package() -> list[tuple[str, PurePosixPath]]:
    """Every file below a folder of `package_dir`, as the package of that folder and the path inside of it."""
    roots = [[part.strip() for part in line.split("=")] for line in lines_of("options", "package_dir")]
    return [
        (package, PurePosixPath(path.relative_to(ROOT / folder).as_posix()))
        for package, folder in roots
        for path in sorted((ROOT / folder).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]


def test_every_folder_of_code_is_a_package_of_the_wheel():
    listed = set(lines_of("options", "packages"))
    code = {".".join((package, *path.parent.parts)) for package, path in files_by_package() if path.suffix == ".py"}
    assert code, "no code was found"
    assert code - listed == set(), "add these to `packages` in setup.cfg"
    assert listed - code - {"noisybench.configs"} == set(), "these packages of setup.cfg hold no code"


def test_every_file_of_data_is_in_the_wheel():
    patterns = [
        (package, pattern.strip())
        for package, text in SETTINGS["options.package_data"].items()
        for pattern in text.split(",")
    ]

    def is_listed(package: str, path: PurePosixPath) -> bool:
        name = ".".join((package, *path.parts))
        return any(fnmatch.fnmatch(name, f"{owner}.{pattern.replace('/', '.')}") for owner, pattern in patterns)

    data = [(package, path) for package, path in files_by_package() if path.suffix != ".py"]
    assert data, "no data was found"
    missing = [f"{package}: {path}" for package, path in data if not is_listed(package, path)]
    assert missing == [], "add these to `options.package_data` in setup.cfg"
