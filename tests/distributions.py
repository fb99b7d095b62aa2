"""Plugins as distributions on disk, as an installation leaves them."""

import base64
import hashlib
from pathlib import Path

REDUCTION = """\
from typing import Literal
from probekit import Reduction, hookimpl

class {name}(Reduction):
    "A reduction."
    kind: Literal["{kind}"] = "{kind}"

    def program(self, tap):
        return ()

"""
GOOD = REDUCTION.format(name="Good", kind="good") + "@hookimpl\ndef register_reductions():\n    return [Good]\n"


class Site:
    """A folder for sys.path with distributions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def add(
        self, name: str, points: dict[str, str], modules: dict[str, str], release: str = "1.0", *, record: bool = False
    ) -> None:
        """Add a distribution.

        Args:
            name: its name.
            points: its entry points: from CATEGORY.KIND to the module.
            modules: their texts, by path below the folder, without the ending.
            release: its version.
            record: whether its files are listed, as an installer lists them; an editable installation lists none.
        """
        info = self.folder / f"{name.replace('-', '_')}-{release}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {release}\n")
        lines = [f"{point} = {module}" for point, module in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[probekit]", *lines, ""]))
        for module, text in modules.items():
            path = self.folder / f"{module}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        if record:
            files = [self.folder / f"{module}.py" for module in modules] + [info / "METADATA"]
            (info / "RECORD").write_text("".join(f"{self._line(path)}\n" for path in files) + f"{info.name}/RECORD,,\n")

    def _line(self, path: Path) -> str:
        content = path.read_bytes()
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        return f"{path.relative_to(self.folder).as_posix()},sha256={digest},{len(content)}"
